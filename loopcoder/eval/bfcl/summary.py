"""The leaderboard's averages."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from loopcoder.eval.scores import PASS, Answer, Estimate, mean_of

_SIMPLE = {
    "v4": ("simple_python", "simple_java", "simple_javascript"),
    "v3": ("simple", "java", "javascript"),
}
_OTHER = ("multiple", "parallel", "parallel_multiple")
_LIVE = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")


def category_of(id: str) -> str:
    """`live_simple` of the question `live_simple_12-3-4`."""
    return id.rpartition("_")[0]


def non_live_weights(version: str) -> dict[str, float]:
    """What each category counts in "non_live": the mean of simple, the others (v3: irrelevance).

    Simple is itself the mean of its three languages.
    """
    parts = (*_OTHER, "irrelevance") if version == "v3" else _OTHER
    share = 1 / (len(parts) + 1)
    return {**dict.fromkeys(_SIMPLE[version], share / 3), **dict.fromkeys(parts, share)}


def live_categories(version: str) -> tuple[str, ...]:
    """Whose questions count in "live", all alike; v3 has irrelevance and relevance among them."""
    return (*_LIVE, "live_irrelevance", "live_relevance") if version == "v3" else _LIVE


def summary(scores: Iterable[tuple[str, float]], version: str = "v4") -> dict[str, float]:
    """Shares of right answers from (category, score) pairs: by category, then the averages.

    "non_live" is a plain mean over categories, "live" one over questions, as the leaderboard's
    tables have it. An average is given only where each of its categories has scores; the
    leaderboard shows N/A there and reckons with 0.
    """
    values: dict[str, list[float]] = defaultdict(list)
    for category, value in scores:
        values[category].append(value)
    result = {category: sum(each) / len(each) for category, each in values.items()}
    weights = non_live_weights(version)
    if weights.keys() <= values.keys():
        result["non_live"] = sum(weight * result[name] for name, weight in weights.items())
    live = live_categories(version)
    if values.keys() >= set(live):
        pooled = [value for category in live for value in values[category]]
        result["live"] = sum(pooled) / len(pooled)
    return result


def estimates(answers: Sequence[Answer], version: str = "v4") -> list[Estimate]:
    """`summary` of scored answers with standard errors: all questions, averages, categories.

    Answers to one question are one cluster; the categories of "non_live" are strata.
    """
    by_question: dict[str, list[float]] = defaultdict(list)
    for answer in answers:
        if PASS in answer.scores:
            by_question[answer.problem].append(answer.scores[PASS])
    means: dict[str, list[float]] = defaultdict(list)
    for question, values in by_question.items():
        means[category_of(question)].append(sum(values) / len(values))
    categories = {name: mean_of(name, values) for name, values in means.items()}
    if not categories:
        return []
    found = [mean_of("accuracy", [value for values in means.values() for value in values])]
    weights = non_live_weights(version)
    if weights.keys() <= means.keys():
        found.append(_stratified("non_live", categories, weights))
    live = live_categories(version)
    if means.keys() >= set(live):
        found.append(mean_of("live", [value for name in live for value in means[name]]))
    return [*found, *categories.values()]


def _stratified(
    metric: str, strata: Mapping[str, Estimate], weights: Mapping[str, float]
) -> Estimate:
    variance: float | None = 0.0
    for name, weight in weights.items():
        error = strata[name].standard_error
        variance = None if error is None or variance is None else variance + (weight * error) ** 2
    return Estimate(
        metric=metric,
        value=sum(weight * strata[name].value for name, weight in weights.items()),
        standard_error=None if variance is None else math.sqrt(variance),
        problems=sum(strata[name].problems for name in weights),
    )
