"""Accuracy on tasks that need depth: as scores by loop count, and question by question."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from loopcoder.loopcount.intervals import Array, Resamples
from loopcoder.loopcount.runs import Run
from loopcoder.loopcount.sweep import Sweep
from loopcoder.records.rows import DepthRow, ScoreRow

_Cell = tuple[str, int]  # task and hops
Answers = Mapping[_Cell, str]  # what one model got right in one mode


def depth_name(mode: str) -> str:
    """What the accuracy of a mode is called: the modes are different metrics."""
    return f"depth accuracy ({mode})"


def depth_scores(run: Run) -> Iterator[tuple[str, ScoreRow]]:
    """A score for each task and number of hops that training had, by the metric's name."""
    for row in run.of(DepthRow):
        for (task, hops), right in trained_answers([row]).items():
            yield (
                depth_name(row.mode),
                ScoreRow(
                    source=row.source,
                    task=f"{task}, {hops} hop{'' if hops == 1 else 's'}",
                    metric=f"accuracy, {row.mode}",
                    value=100 * right.count("1") / len(right),
                    unit="%",
                    loops=row.loops,
                    samples=len(right),
                ),
            )


def trained_answers(rows: Iterable[DepthRow]) -> dict[_Cell, str]:
    """What rows of one model and mode got right, of as many hops as training had."""
    return {
        (row.task, hops): right
        for row in rows
        for hops, right in zip(row.hops, row.right, strict=True)
        if hops <= row.trained_hops and right
    }


def question_sweep(
    groups: Sequence[Sequence[Answers]], mode: str, draw: Callable[[int], Resamples] = Resamples
) -> Sweep | None:
    """Models of several kinds on the questions that all were asked; the first kind is number 0.

    `groups[i]` are the models (seeds) of kind i. Each task and number of hops weighs the same.
    None where they share no question.
    """
    models = [model for group in groups for model in group]
    shared = _shared(models)
    if not shared:
        return None
    weights = np.concatenate([np.full(n, 1 / n) for n in shared.values()])
    return Sweep(
        name=depth_name(mode),
        unit="points",
        of="questions",
        source="",
        basis="measured",
        better=1,
        totals={i: np.stack([_points(m, shared) for m in group]) for i, group in enumerate(groups)},
        weights=weights,
        resamples=draw(len(weights)),
    )


def _shared(models: Sequence[Answers]) -> dict[_Cell, int]:
    """The cells that every model has with as many questions, and how many these are."""
    first = models[0] if models else {}
    return {
        cell: len(right)
        for cell, right in sorted(first.items())
        if all(len(model.get(cell, "")) == len(right) for model in models)
    }


def _points(model: Answers, shared: Mapping[_Cell, int]) -> Array:
    columns = [np.frombuffer(model[cell].encode(), dtype=np.uint8) - ord("0") for cell in shared]
    scaled: Array = np.concatenate([100.0 * column / len(column) for column in columns])
    return scaled
