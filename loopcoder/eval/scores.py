"""pass@k and its uncertainty, from answers."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

SHARE = "share"
PASS = "pass"
"""The score that pass@k counts; other names stand before it, as in "base pass@1"."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer, scored or not. `scores` is empty where it is not, and `reason` says why.

    Problems of one `cluster` (gaps in the same function) tell less than others; None: it is alone.
    """

    problem: str
    sample: int  # from 1
    scores: dict[str, float]
    reason: str
    detail: str = ""
    cluster: str | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over `problems`, and its standard error (None for a single problem, or not known)."""

    metric: str
    value: float
    standard_error: float | None
    problems: int
    unit: str = SHARE


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that k of n answers, c of them right, hold a right one: 1 - C(n-c, k) / C(n, k).

    The unbiased estimator of Chen et al. (arXiv 2107.03374), section 2.1. Raises `ValueError` for
    counts that cannot be.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(
            f"pass@{k} of {n} answers with {c} right: give 0 <= c <= n and 1 <= k <= n"
        )
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def mean_of(
    metric: str, values: Sequence[float], clusters: Sequence[str] | None = None
) -> Estimate:
    """The mean over problems, its standard error from the spread over clusters of problems.

    Without `clusters` each problem is one; answers to a problem have been averaged before.
    """
    names = clusters or [str(place) for place in range(len(values))]
    mean, sums = fmean(values), defaultdict[str, float](float)
    for value, name in zip(values, names, strict=True):
        sums[name] += (value - mean) / len(values)
    error, count = None, len(sums)
    if count > 1:
        error = math.sqrt(count / (count - 1) * math.fsum(s * s for s in sums.values()))
    return Estimate(metric=metric, value=mean, standard_error=error, problems=len(values))


def pass_rates(answers: Iterable[Answer], ks: Sequence[int] = (1,)) -> list[Estimate]:
    """pass@k for each score that the answers have and each k that every scored problem has.

    Unscored answers are not there; a problem without a scored one is left out.
    """
    counts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    clusters: dict[str, str] = {}
    for answer in answers:
        clusters[answer.problem] = answer.cluster or answer.problem
        for name, value in answer.scores.items():
            counts[name][answer.problem].append(value)
    found = []
    for name, problems in sorted(counts.items(), key=lambda item: (item[0] != PASS, item[0])):
        fewest = min(len(values) for values in problems.values())
        for k in sorted({k for k in ks if k <= fewest}):
            metric = f"pass@{k}" if name == PASS else f"{name} pass@{k}"
            rates = [pass_at_k(len(v), round(sum(v)), k) for v in problems.values()]
            found.append(mean_of(metric, rates, [clusters[problem] for problem in problems]))
    return found


def usual_ks(n: int) -> tuple[int, ...]:
    """1, 10, 100 and n, as far as n answers allow."""
    return tuple(sorted({k for k in (1, 10, 100, n) if k <= n}))
