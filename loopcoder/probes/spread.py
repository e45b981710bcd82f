"""Means and intervals of samples that come one by one; nothing grows with their number."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass
class Moments:
    """Running mean and spread of arrays of one shape (Welford)."""

    n: int = 0
    mean: Any = 0.0
    squares: Any = 0.0

    def add(self, value: Array) -> None:
        """Take one more."""
        self.n += 1
        before = value - self.mean
        self.mean = self.mean + before / self.n
        self.squares = self.squares + before * (value - self.mean)

    @property
    def sd(self) -> Array | None:
        """The spread of single values, from two on."""
        return None if self.n < 2 else np.sqrt(self.squares / (self.n - 1))


@dataclass
class Spread:
    """Samples of documents, those of one document in a row.

    The unit of `mean` and `interval` is the document, as samples of one are not independent; `sd`
    is the spread of single samples.
    """

    samples: Moments = field(default_factory=Moments)
    _documents: Moments = field(default_factory=Moments)
    _document: str | None = None
    _current: Moments = field(default_factory=Moments)

    def add(self, document: str, value: ArrayLike) -> None:
        """Take one sample's value, a number or an array."""
        array = np.asarray(value, dtype=np.float64)
        self.samples.add(array)
        if document != self._document:
            self._close()
            self._document = document
        self._current.add(array)

    def _close(self) -> None:
        if self._current.n:
            self._documents.add(self._current.mean)
        self._current = Moments()

    def documents(self) -> Moments:
        """Moments over documents, each its samples' mean."""
        self._close()
        self._document = None
        return self._documents


def interval(moments: Moments) -> tuple[Array, Array] | tuple[None, None]:
    """The 95 % confidence interval of the mean (Student's t), from two documents on."""
    if moments.n < 2 or moments.sd is None:
        return None, None
    half = stats.t.ppf(0.975, moments.n - 1) * moments.sd / math.sqrt(moments.n)
    return moments.mean - half, moments.mean + half
