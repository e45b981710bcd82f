"""Scores that the harnesses have alike."""

from collections.abc import Mapping

from loopcoder.eval.harness.base import Score
from loopcoder.eval.scores import mean_of


def mean_score(task: str, metric: str, correct: Mapping[str, float]) -> Score:
    """The mean over tasks of the share of right answers; its standard error is over tasks."""
    mean = mean_of(metric, list(correct.values()))
    return Score(
        task=task,
        metric=metric,
        value=mean.value,
        samples=mean.problems,
        standard_error=mean.standard_error,
    )


def unscored(name: str, count: int) -> tuple[Score, ...]:
    """How many tasks could not be scored; nothing where all were."""
    return (Score(task=name, metric="unscored", value=count, unit="tasks"),) if count else ()
