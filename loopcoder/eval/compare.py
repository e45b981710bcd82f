"""Is model A better than model B? Paired over the problems that both have answered."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from loopcoder.errors import RecordError
from loopcoder.eval.scores import PASS
from loopcoder.records.rows import AnswerRow, AnyRow

_RESAMPLES = 9999
Gaps = np.ndarray[tuple[int], np.dtype[np.float64]]
_Means = dict[tuple[str, str], dict[str, float]]  # task and score, problem


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One task's score in A and B over the `problems` that both have.

    `difference` is A - B, `low` and `high` its 95 % interval, `p` the two-sided probability of a
    difference as large if both were alike: exact (McNemar's test) where each problem has one
    answer, by random signs otherwise. `only_a`, `only_b` count problems with the higher score in A,
    in B (of bits a byte the lower is the better).
    """

    task: str
    score: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    test: str
    problems: int
    only_a: int
    only_b: int
    unpaired: int


def compare(a: Sequence[AnyRow], b: Sequence[AnyRow], *, seed: int = 0) -> list[Comparison]:
    """Every task and score that both runs have. Raises `RecordError` where there is none."""
    every = [row for row in (*a, *b) if isinstance(row, AnswerRow)]
    left, right = _means(a), _means(b)
    shared = sorted(set(left) & set(right))
    paired = [key for key in shared if left[key].keys() & right[key].keys()]
    clusters = {
        key: {row.problem: row.cluster or row.problem for row in every if row.task == key[0]}
        for key in paired
    }
    found = [_compared(key, left[key], right[key], clusters[key], seed) for key in paired]
    if not found:
        raise RecordError(
            "the runs have no task with a problem that both answered; run the same tasks on both"
        )
    return found


def _means(rows: Iterable[AnyRow]) -> _Means:
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if isinstance(row, AnswerRow):
            for name, value in row.scores.items():
                values[row.task, name][row.problem].append(value)
    return {
        key: {problem: sum(each) / len(each) for problem, each in problems.items()}
        for key, problems in values.items()
    }


def _compared(
    key: tuple[str, str],
    a: dict[str, float],
    b: dict[str, float],
    clusters: dict[str, str],
    seed: int,
) -> Comparison:
    task, score = key
    shared = sorted(a.keys() & b.keys())
    first, second = np.array([a[p] for p in shared]), np.array([b[p] for p in shared])
    gaps = first - second
    units = _by_cluster(gaps, [clusters[problem] for problem in shared])
    low, high = _interval(units)
    p, test = _p_value(units, seed)
    return Comparison(
        task=task,
        score=score if score != PASS else "pass@1",
        a=float(first.mean()),
        b=float(second.mean()),
        difference=float(gaps.mean()),
        low=low,
        high=high,
        p=p,
        test=test,
        problems=len(shared),
        only_a=int((gaps > 0).sum()),
        only_b=int((gaps < 0).sum()),
        unpaired=len(a.keys() ^ b.keys()),
    )


def _by_cluster(gaps: Gaps, clusters: Sequence[str]) -> Gaps:
    """A number for each cluster, the unit that is independent; their mean is the problems'."""
    names = sorted(set(clusters))
    places = np.searchsorted(names, clusters)
    return np.bincount(places, weights=gaps) * len(names) / len(gaps)


def _interval(gaps: Gaps) -> tuple[float, float]:
    """Student's, of the mean over problems; the whole range where there is one problem."""
    if len(gaps) < 2:
        return -1.0, 1.0
    half = stats.t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / math.sqrt(len(gaps))
    return float(gaps.mean() - half), float(gaps.mean() + half)


def _p_value(gaps: Gaps, seed: int) -> tuple[float, str]:
    apart = gaps[gaps != 0]
    if not len(apart):
        return 1.0, "no difference on any problem"
    if set(np.abs(apart)) == {1.0}:
        found = stats.binomtest(int((apart > 0).sum()), len(apart))
        return float(found.pvalue), "McNemar, exact"
    permuted = stats.permutation_test(
        (gaps,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(seed),
    )
    return float(permuted.pvalue), "random signs"


def holm(values: Sequence[float]) -> list[float]:
    """The p values of several tasks, adjusted so that a table of them stays honest (Holm)."""
    order = np.argsort(values)
    adjusted, highest = [0.0] * len(values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        adjusted[index] = highest
    return adjusted
