"""Which windows of which documents are measured: drawn by a seed, one document after another."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from loopcoder.errors import DataError
from loopcoder.train.text import TextWindow


class Document(Protocol):
    """A text as tokens."""

    name: str

    def __len__(self) -> int:
        """Its tokens."""
        ...

    def window(self, first: int, length: int) -> TextWindow:
        """`length` tokens from `first`."""
        ...


class Documents(Protocol):
    """Texts that can be read again and again, in any order."""

    name: str

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int) -> Document:
        """Read one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A window of one document: `token_ids`, all but the first of which are predicted."""

    document: str
    start: int
    token_ids: Sequence[int]
    bytes: int  # of text, that the predicted tokens stand for


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Up to `count` windows of exactly `length` tokens; each iteration gives the same ones.

    Documents come in an order that `seed` decides, and windows lie at places that it decides, up
    to `per_document` in one document, apart from each other. Documents shorter than `length` are
    passed over. Nothing is kept: an iteration reads the documents again.
    """

    documents: Documents
    length: int
    count: int
    seed: int = 0
    per_document: int = 1

    def __post_init__(self) -> None:
        """Raises `DataError` for sizes that leave nothing to draw."""
        for name, least in (("length", 2), ("count", 1), ("per_document", 1)):
            if getattr(self, name) < least:
                raise DataError(
                    f"{name} of the samples is {getattr(self, name)}; it must be {least} or more"
                )

    def __iter__(self) -> Iterator[Sample]:
        order = list(range(len(self.documents)))
        chance = random.Random(self.seed)
        chance.shuffle(order)
        left = self.count
        for index in order:
            document = self.documents[index]
            for start in self._starts(len(document), chance)[:left]:
                window = document.window(start, self.length)
                left -= 1
                yield Sample(
                    document=document.name,
                    start=start,
                    token_ids=window.token_ids,
                    bytes=window.bytes,
                )
            if not left:
                return

    def _starts(self, tokens: int, chance: random.Random) -> list[int]:
        """Windows that do not overlap: whole ones in a row, and the slack spread before them."""
        windows = min(self.per_document, tokens // self.length)
        slack = tokens - windows * self.length
        before = sorted(chance.randint(0, slack) for _ in range(windows))
        return [gap + i * self.length for i, gap in enumerate(before)]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a draw will give, known before a model is loaded."""

    samples: int
    documents: int
    hash: str  # sha256 of the token ids in order, the first 16 digits


def survey(draw: Draw) -> Drawn:
    """Go through a draw once. Raises `DataError` if it is empty, saying how long the texts are."""
    digest, names, samples = hashlib.sha256(), set(), 0
    for sample in draw:
        digest.update(np.asarray(sample.token_ids, dtype="<i8").tobytes())
        names.add(sample.document)
        samples += 1
    if not samples:
        total = len(draw.documents)
        longest = max((len(draw.documents[i]) for i in range(total)), default=0)
        raise DataError(
            f"{draw.documents.name}: no text of {draw.length} tokens among {total} "
            f"documents, the longest has {longest}; give longer text or a smaller --length"
        )
    return Drawn(samples=samples, documents=len(names), hash=digest.hexdigest()[:16])
