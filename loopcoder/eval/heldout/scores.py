"""What a document cost, and bits per byte of all of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopcoder.loopcount.intervals import Estimate


@dataclass(frozen=True, kw_only=True)
class DocumentScore:
    """`nats` that the `tokens` predicted tokens of a document cost, which stand for `bytes` bytes.

    `nats` is None where it could not be scored: `unscored` says why. Names are those of `Texts`:
    no two documents have the same.
    """

    document: str
    nats: float | None = None
    bytes: int = 0
    tokens: int = 0
    windows: int = 0
    unscored: str | None = None

    @property
    def bits_per_byte(self) -> float | None:
        """Its own rate; None where it has no score, or no bytes."""
        return (
            self.nats / math.log(2) / self.bytes if self.nats is not None and self.bytes else None
        )


Settled = Callable[[DocumentScore], object]


@dataclass(frozen=True)
class HeldoutResult:
    """Scores in the order of the documents; `data_hash` is of their text, or a corpus's tokens."""

    documents: tuple[DocumentScore, ...]
    data: str
    data_hash: str
    length: int

    @property
    def scored(self) -> list[DocumentScore]:
        """Documents that have a score."""
        return [document for document in self.documents if document.nats is not None]

    @cached_property
    def estimate(self) -> "Estimate | None":
        """Bits per byte of all scored documents together; None if there are none.

        Interval and standard error (`error`) are from the spread over documents: the tokens of one
        are not independent of each other.
        """
        import numpy as np

        from loopcoder.loopcount.intervals import Resamples, ratio_estimate

        scored = self.scored
        if not scored:
            return None
        bits = np.array([document.nats for document in scored], dtype=np.float64) / math.log(2)
        size = np.array([document.bytes for document in scored], dtype=np.float64)
        return ratio_estimate(bits, size, Resamples(len(scored)))
