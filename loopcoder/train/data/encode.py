"""Writing token shards: documents to ids, ids to .npy files of bounded length."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loopcoder.train.data.marks import Marks
from loopcoder.train.data.tokenizer import vocabulary_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class WrittenSplit:
    """What one split became: tokens (bos and eos among them) and the files in order."""

    documents: int
    tokens: int
    shards: list[dict[str, Any]]


def write_shards(
    folder: Path,
    split: str,
    texts: Iterable[str],
    tokenizer: "Tokenizer",
    marks: Marks,
    shard_tokens: int,
) -> WrittenSplit:
    """Encode `texts`, a document each, and write them with `write_arrays`.

    Raises `DataError` if the tokenizer writes bos for a text.
    """
    counter = _Counted(texts)
    shards = write_arrays(
        folder,
        split,
        _encoded(counter, tokenizer, marks),
        vocab_size=vocabulary_size(tokenizer),
        shard_tokens=shard_tokens,
    )
    total = sum(shard["tokens"] for shard in shards)
    return WrittenSplit(documents=counter.count, tokens=total, shards=shards)


def write_arrays(
    folder: Path,
    split: str,
    arrays: Iterable[NDArray[Any]],
    *,
    vocab_size: int,
    shard_tokens: int,
) -> list[dict[str, Any]]:
    """Write `split`-00000.npy, ... of `shard_tokens` tokens each (the last one is shorter).

    `arrays` are stretches of ids in order. Returns the manifest's record of the files.
    """
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    shards: list[dict[str, Any]] = []
    for tokens in _regroup((array.astype(dtype) for array in arrays), shard_tokens):
        name = f"{split}-{len(shards):05d}.npy"
        np.save(folder / name, tokens, allow_pickle=False)
        shards.append({"file": name, "tokens": len(tokens)})
    return shards


class _Counted:
    """An iterable that remembers how many items went through."""

    def __init__(self, items: Iterable[str]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for item in self._items:
            self.count += 1
            yield item


def _encoded(
    texts: Iterable[str], tokenizer: "Tokenizer", marks: Marks
) -> Iterator[NDArray[np.int64]]:
    # A corpus file that spells out a special token must not be able to forge one.
    tokenizer.encode_special_tokens = True
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            yield np.array(marks.around(encoding.ids), dtype=np.int64)


def _regroup(arrays: Iterable[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """The same numbers in arrays of `size`, the last one shorter."""
    waiting: list[NDArray[Any]] = []
    count = 0
    for array in arrays:
        waiting.append(array)
        count += len(array)
        while count >= size:
            joined = np.concatenate(waiting)
            yield joined[:size]
            waiting, count = [joined[size:]], count - size
    if count:
        yield np.concatenate(waiting)
