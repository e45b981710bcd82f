"""One text, or one set of tasks, at several loop counts: what each gives, and the differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np

from loopcoder.loopcount.intervals import (
    Array,
    Estimate,
    Resamples,
    SeedVariance,
    pooled_variance,
    ratio_estimate,
)

Basis = Literal["measured", "formula", "published"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """What one loop count gives, with the 95 % interval over documents or tasks."""

    loops: int
    value: float
    low: float | None
    high: float | None
    units: int
    models: int  # seeds


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """`totals[R]` [models, units] over `weights` [units] is what models of R loops give.

    `better` is -1 where less is better. `paired_models`: the rows of every loop count are the same
    models, so that their luck cancels. Otherwise models of one loop count differ by their seeds.
    """

    name: str
    unit: str
    of: str  # "documents", "tasks", ...
    source: str
    basis: Basis
    better: int
    totals: Mapping[int, Array]
    weights: Array
    resamples: Resamples
    paired_models: bool = False

    @property
    def loops(self) -> tuple[int, ...]:
        """The loop counts that were measured, fewest first."""
        return tuple(sorted(self.totals))

    @property
    def units(self) -> int:
        """How many documents or tasks."""
        return len(self.weights)

    @property
    def counted(self) -> str:
        """`52 documents`, `1 task`."""
        return f"{self.units} {self.of if self.units != 1 else self.of.removesuffix('s')}"

    @property
    def models(self) -> int:
        """The most models that any loop count has."""
        return max(len(total) for total in self.totals.values())

    def _mean(self, loops: int) -> Array:
        mean: Array = self.totals[loops].mean(axis=0)
        return mean

    @cached_property
    def _seed_variance(self) -> SeedVariance | None:
        """Of one model, pooled over loop counts that have several; None where none has."""
        if self.paired_models:
            return None
        return pooled_variance(t.sum(axis=1) / self.weights.sum() for t in self.totals.values())

    def _luck(self, *loops: int) -> SeedVariance | None:
        one = self._seed_variance
        return one.of_mean(*(len(self.totals[r]) for r in loops)) if one else None

    @property
    def counts_seeds(self) -> bool:
        """Whether the intervals hold the luck of the seeds."""
        return self._seed_variance is not None

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """What each loop count gives."""
        return tuple(self._level(loops) for loops in self.loops)

    def _level(self, loops: int) -> Level:
        found = ratio_estimate(self._mean(loops), self.weights, self.resamples, self._luck(loops))
        return Level(
            loops=loops,
            value=found.value,
            low=found.low,
            high=found.high,
            units=self.units,
            models=len(self.totals[loops]),
        )

    @cached_property
    def _gains(self) -> dict[tuple[int, int], Estimate]:
        return {
            (fewer, more): ratio_estimate(
                self.better * (self._mean(more) - self._mean(fewer)),
                self.weights,
                self.resamples,
                self._luck(fewer, more),
                comparisons=math.comb(len(self.loops), 2),
            )
            for fewer, more in combinations(self.loops, 2)
        }

    def gain(self, fewer: int, more: int) -> Estimate:
        """What `more` loops are better by than `fewer`; above zero is better."""
        return self._gains[fewer, more]

    def shares(self, candidates: Sequence[int]) -> dict[int, float]:
        """Share of resamples in which each of `candidates` is the best (ties to the fewest)."""
        columns = [self._mean(loops) for loops in candidates]
        sums = self.resamples.sums(np.stack((*columns, self.weights), axis=1))
        values = self.better * sums[:, :-1] / sums[:, -1:]
        values += self._drawn_luck(candidates, len(values))
        best = np.argmax(values, axis=1)
        return {loops: float((best == i).mean()) for i, loops in enumerate(candidates)}

    def _drawn_luck(self, candidates: Sequence[int], count: int) -> Array:
        one = self._seed_variance
        if one is None:
            return np.zeros((count, len(candidates)))
        models = np.array([len(self.totals[loops]) for loops in candidates])
        drawn = np.random.default_rng(1).standard_t(one.freedom, (count, len(candidates)))
        luck: Array = drawn * np.sqrt(one.variance / models)
        return luck
