"""Exact and near duplicates. The first of a group stays, so order decides who that is."""

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopcoder.errors import DataError
from loopcoder.train.data.files import Document
from loopcoder.train.data.progress import Progress
from loopcoder.train.data.recipe import Dedup
from loopcoder.train.data.tally import Tally

_WORD = re.compile(rb"\w+")
_MIX = np.uint32(0x9E3779B1)  # the golden ratio's odd multiplier: mixes a word into its shingle


def deduplicate(
    documents: list[Document], settings: Dedup, tally: Tally, progress: Progress
) -> list[Document]:
    """Documents without those equal or similar to an earlier one."""
    distinct = list(_without_equal(documents, tally))
    near = NearDuplicates(settings)
    kept = []
    for document in progress.track("comparing", distinct, len(distinct)):
        if near.seen(document.text):
            tally.drop(document.project, "near-duplicate", document.size)
        else:
            kept.append(document)
    return kept


def _without_equal(documents: Iterable[Document], tally: Tally) -> Iterator[Document]:
    seen: set[bytes] = set()
    for document in documents:
        key = hashlib.sha256("".join(document.text.split()).encode()).digest()
        if key in seen:
            tally.drop(document.project, "duplicate", document.size)
        else:
            seen.add(key)
            yield document


class NearDuplicates:
    """The texts met so far, by MinHash signature."""

    def __init__(self, settings: Dedup) -> None:
        try:  # datasketch ships no type information
            from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]
        except ImportError as error:
            message = "near-duplicates need datasketch: pip install 'loopcoder[train]'"
            raise DataError(message) from error

        self._settings = settings
        self._blank = MinHash(num_perm=settings.num_perm, hashfunc=int, scheme="affine32")
        self._lsh = MinHashLSH(threshold=settings.threshold, num_perm=settings.num_perm)
        self._signatures: list[Any] = []

    def seen(self, text: str) -> bool:
        """Whether a text at least `threshold` similar was met; if not, this one is remembered."""
        signature = self._blank.copy()
        signature.update_batch(shingle_hashes(text, self._settings.shingle_words).tolist())
        candidates = (self._signatures[index] for index in self._lsh.query(signature))
        if any(signature.jaccard(other) >= self._settings.threshold for other in candidates):
            return True
        self._lsh.insert(len(self._signatures), signature)
        self._signatures.append(signature)
        return False


def shingle_hashes(text: str, words: int) -> NDArray[np.uint32]:
    """Distinct 32-bit hashes of all runs of `words` words; one hash for a shorter text."""
    hashes = np.array([zlib.crc32(word) for word in _WORD.findall(text.encode())], dtype=np.uint32)
    words = max(1, min(words, len(hashes)))
    runs = np.zeros(max(0, len(hashes) - words + 1), dtype=np.uint32)
    for offset in range(words):
        runs = runs * _MIX + hashes[offset : offset + len(runs)]
    return np.unique(runs)
