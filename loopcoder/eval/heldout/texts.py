"""The documents that are scored: their names, their text, and one hash of them all."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from loopcoder.probes.samples import Document

_DIGITS = 16


class Texts:
    """`limit` of the documents in `data`, spread evenly, or all; read again whenever asked for.

    `data` is what `probes.texts.find_documents` takes. `corpus` says that it is one of token
    shards. `hash` is of the text, and of the token ids of a corpus.

    Raises `DataError` for what cannot be read.
    """

    def __init__(self, data: Sequence[Path], limit: int | None) -> None:
        from loopcoder.probes.texts import HeldoutDocuments, find_documents

        self._documents = find_documents(data, _CHARACTERS, Path())
        self.name = self._documents.name
        self.corpus = isinstance(self._documents, HeldoutDocuments)
        every = len(self._documents)
        count = min(limit or every, every)
        self._numbers = [i * every // count for i in range(count)]
        self.names: list[str] = []
        digest = hashlib.sha256()
        for number in range(count):
            document = self.document(number)
            ids = document.window(0, len(document)).token_ids
            digest.update(np.asarray(ids, dtype="<i8").tobytes())
            self.names.append(document.name)
        self.hash = digest.hexdigest()[:_DIGITS]

    def __len__(self) -> int:
        return len(self._numbers)

    def document(self, number: int) -> "Document":
        """A document in the tokens of the corpus, or in characters."""
        return self._documents[self._numbers[number]]

    def text(self, number: int) -> str:
        """A document's text; a corpus has none."""
        assert not self.corpus
        document = self.document(number)
        return "".join(map(chr, document.window(0, len(document)).token_ids))


def _characters(text: str, **_options: object) -> Mapping[str, list[Any]]:
    """A tokenizer whose tokens are code points: documents are read before there is a model's."""
    offsets = [(at, at + 1) for at in range(len(text))]
    return {"input_ids": [ord(character) for character in text], "offset_mapping": offsets}


_CHARACTERS = cast("PreTrainedTokenizerBase", _characters)
