"""Confidence intervals of paired differences: a bootstrap over documents, and luck of the seed.

The unit is the document (or the task): tokens and windows of one are not independent, so they are
summed first. The bootstrap is studentised: its quantiles are of (resampled - measured) / standard
error. With few documents of very different lengths the simpler ones are too narrow; docs/advice.md
has the numbers.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

_SHOWN, _MISSED = 0.95, 0.01  # level of intervals shown; what those that decide may miss
MIN_UNITS = 8  # fewer documents than this decide nothing
RESAMPLES = 4999
_MOST = 50_000_000  # entries of all resamples, 100 MB
_BLOCK = 2_000_000  # entries that are drawn or multiplied at once
_BOUNDLESS = 1e9  # stands for the t of a resample without spread


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its intervals of 95 % and 99 %; None where one unit is all there is.

    The 1 % that the latter may miss is for all comparisons of a sweep together (Bonferroni): with
    the six pairs of four loop counts each interval is of 99.83 %.
    `error` is the standard error from documents, `seed_error` that from seeds, if estimated.
    """

    value: float
    units: int
    low: float | None = None
    high: float | None = None
    low99: float | None = None
    high99: float | None = None
    error: float | None = None
    seed_error: float | None = None

    @property
    def called(self) -> bool:
        """Whether it differs from zero for certain: the 99 % interval and enough units say so."""
        if self.low99 is None or self.high99 is None or self.units < MIN_UNITS:
            return False
        return self.low99 > 0 or self.high99 < 0

    def negated(self) -> Self:
        """The same the other way round."""
        minus = [None if v is None else -v for v in (self.high, self.low, self.high99, self.low99)]
        return type(self)(
            value=-self.value,
            units=self.units,
            low=minus[0],
            high=minus[1],
            low99=minus[2],
            high99=minus[3],
            error=self.error,
            seed_error=self.seed_error,
        )


@dataclass(frozen=True)
class SeedVariance:
    """Variance that a comparison has from the seeds of its models, and its degrees of freedom."""

    variance: float
    freedom: int

    def of_mean(self, *models: int) -> Self:
        """That of a mean over so many models, or of the difference of such means."""
        return type(self)(self.variance * sum(1 / count for count in models), self.freedom)


def pooled_variance(groups: Iterable[Array]) -> SeedVariance | None:
    """Of one model, pooled over groups that differ by seeds alone; None without two in a group."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    if not freedom:
        return None
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in several)
    return SeedVariance(squares / freedom, freedom)


class Resamples:
    """The same resamples of `units` for every number of a comparison, so that all are paired.

    Drawn at first use. Of very many units there are fewer resamples, to stay within 100 MB.
    """

    def __init__(self, units: int, count: int = RESAMPLES, seed: int = 0) -> None:
        self.units = units
        self.count = min(count, max(999, _MOST // max(units, 1)))
        self._seed = seed

    @cached_property
    def _times(self) -> NDArray[np.uint16]:
        """How often each unit is in each resample: [count, units]."""
        chance = np.random.default_rng(self._seed)
        even = np.full(self.units, 1 / self.units)
        drawn = np.empty((self.count, self.units), dtype=np.uint16)
        for rows in self._blocks():
            drawn[rows] = chance.multinomial(self.units, even, size=len(drawn[rows]))
        return drawn

    def _blocks(self) -> Iterator[slice]:
        size = max(1, _BLOCK // self.units)
        return (slice(first, first + size) for first in range(0, self.count, size))

    def sums(self, columns: Array) -> Array:
        """Sums of each resample's units: [units, k] to [count, k]."""
        return np.concatenate([self._times[rows] @ columns for rows in self._blocks()])


def ratio_estimate(
    totals: Array,
    weights: Array,
    resamples: Resamples,
    seeds: SeedVariance | None = None,
    *,
    comparisons: int = 1,
) -> Estimate:
    """sum(totals) / sum(weights), both [units], with intervals; `comparisons` share the 1 %."""
    levels = (_SHOWN, 1 - _MISSED / comparisons)
    units = len(totals)
    value = float(totals.sum() / weights.sum())
    if units < 2:
        return Estimate(value=value, units=units)
    columns = np.stack((totals, weights, totals**2, totals * weights, weights**2), axis=1)
    error = float(_errors(columns.sum(axis=0)[None], units)[0])
    t = np.array([[-1, 1]]) * [[_quantile(level, units - 1)] for level in levels]
    if units >= MIN_UNITS:  # fewer are shown, but nothing is called: too few to resample
        tails = [[(1 - level) / 2, (1 + level) / 2] for level in levels]
        drawn = np.quantile(_studentised(resamples.sums(columns), value, error, units), tails)
        # Where nearly all units agree, too many resamples have no spread: Student's t stays.
        t = drawn if np.abs(drawn).max() < 1e-4 * _BOUNDLESS else t
    spans = [(value - high * error, value - low * error) for low, high in t.tolist()]
    if seeds is not None:
        lucky = [_with_seeds(value, error, units, seeds, level) for level in levels]
        spans = [_wider(a, b) for a, b in zip(spans, lucky, strict=True)]
    (low, high), (low99, high99) = spans
    return Estimate(
        value=value,
        units=units,
        low=low,
        high=high,
        low99=low99,
        high99=high99,
        error=error,
        seed_error=None if seeds is None else math.sqrt(seeds.variance),
    )


def _quantile(level: float, freedom: float) -> float:
    return float(stats.t.ppf((1 + level) / 2, freedom))


def _errors(sums: Array, units: int) -> Array:
    """Standard error of a ratio (linearised) from sums of d, w, d^2, d w, w^2: [n, 5] to [n]."""
    d, w, dd, dw, ww = sums.T
    ratio = d / w
    squares = np.maximum(dd - 2 * ratio * dw + ratio**2 * ww, 0)
    errors: Array = np.sqrt(units / (units - 1) * squares) / w
    return errors


def _studentised(sums: Array, value: float, error: float, units: int) -> Array:
    """A resample of one document over and over has no spread: its t is without bound."""
    moved, own = sums[:, 0] / sums[:, 1] - value, _errors(sums, units)
    spread = own > 1e-6 * error
    t: Array = np.where(spread, moved / np.where(spread, own, 1.0), np.sign(moved) * _BOUNDLESS)
    return t


def seeds_estimate(value: float, seeds: SeedVariance) -> Estimate:
    """A number that nothing but the luck of seeds is known of: Student's t, and nothing called."""
    spans = [_with_seeds(value, 0.0, 2, seeds, level) for level in (_SHOWN, 1 - _MISSED)]
    (low, high), (low99, high99) = spans
    error = math.sqrt(seeds.variance)
    return Estimate(
        value=value, units=0, low=low, high=high, low99=low99, high99=high99, seed_error=error
    )


def share_interval(share: float, questions: int) -> tuple[float, float]:
    """95 % bounds of a share of `questions` that were right (Wilson): sound at 0 and 1 as well.

    A mean over seeds of the same questions can only spread less than one seed's share.
    """
    z = float(stats.norm.ppf((1 + _SHOWN) / 2)) ** 2
    middle = (share + z / (2 * questions)) / (1 + z / questions)
    half = math.sqrt(z * share * (1 - share) / questions + (z / (2 * questions)) ** 2)
    half /= 1 + z / questions
    return max(0.0, middle - half), min(1.0, middle + half)


def _with_seeds(
    value: float, error: float, units: int, seeds: SeedVariance, level: float
) -> tuple[float, float]:
    """Student's t with both variances (Welch and Satterthwaite).

    Two to five seeds are too few to resample: a bootstrap over three finds every interval too
    narrow.
    """
    documents = error**2
    total = documents + seeds.variance
    if total == 0:
        return value, value
    freedom = total**2 / (documents**2 / (units - 1) + seeds.variance**2 / seeds.freedom)
    half = _quantile(level, freedom) * math.sqrt(total)
    return value - half, value + half


def _wider(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return min(a[0], b[0]), max(a[1], b[1])
