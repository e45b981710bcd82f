"""Benchmark scores, and accuracy on tasks that need depth, by loop count: paired over tasks."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from loopcoder.errors import RecordError
from loopcoder.loopcount.depth import depth_scores
from loopcoder.loopcount.intervals import Resamples
from loopcoder.loopcount.runs import Run
from loopcoder.loopcount.sweep import Sweep
from loopcoder.records.rows import ScoreRow

SCORES = "benchmark scores"
DEPTHS = "task depths"  # what depth accuracy is paired over: a task and a number of hops
# What a sweep's scores must have in common: what they are, who measured them, how, in what unit.
_Group = tuple[str, str, str, str]
_Scores = dict[int, dict[str, dict[str, float]]]  # loops, model, task


def score_sweeps(runs: Sequence[Run], resamples: int, *, trained: bool) -> list[Sweep]:
    """A sweep for each source, metric and unit that has a task at two loop counts or more.

    More is better. `trained`: of models that ran with the loops they were trained with; otherwise
    of one checkpoint at several.
    """
    groups: dict[_Group, _Scores] = defaultdict(lambda: defaultdict(dict))
    sources: dict[_Group, dict[str, None]] = defaultdict(dict)
    for run in runs:
        for name, row in _named(run):
            model = row.source.model
            if row.loops is None or (model and trained and model.trained_loops != row.loops):
                continue
            key = (name, row.source.citation or "", row.metric, row.unit)
            _add(groups[key], row, row.loops, run.name)
            sources[key][row.source.citation or run.name] = None
    found = (
        _sweep(key, groups[key], ", ".join(sources[key]), resamples, paired=not trained)
        for key in sorted(groups)
    )
    return [sweep for sweep in found if sweep]


def _named(run: Run) -> Iterator[tuple[str, ScoreRow]]:
    yield from ((SCORES, row) for row in run.of(ScoreRow))
    yield from depth_scores(run)


def _add(scores: _Scores, row: ScoreRow, loops: int, name: str) -> None:
    tasks = scores[loops].setdefault(row.source.model.hash if row.source.model else "", {})
    if row.task in tasks:
        raise RecordError(
            f"{name}: {row.task}, {row.metric}, at {loops} loops is given twice for one model; "
            "give one of them"
        )
    tasks[row.task] = row.value


def _sweep(
    key: _Group, scores: _Scores, source: str, resamples: int, *, paired: bool
) -> Sweep | None:
    """Over the tasks that every model has; a task that would leave fewer than two counts is out."""
    counts = {
        loops: models
        for loops, models in scores.items()
        if any(set(tasks) & _tasks_elsewhere(scores, loops) for tasks in models.values())
    }
    if len(counts) < 2:
        return None
    every = [set(tasks) for models in counts.values() for tasks in models.values()]
    shared = sorted(set.intersection(*every))
    if not shared:
        return None
    name, citation, _, unit = key
    return Sweep(
        name=name,
        unit="points" if unit == "%" else unit,
        of="tasks" if name == SCORES else DEPTHS,
        source=source,
        basis="published" if citation else "measured",
        better=1,
        totals={
            loops: np.array([[tasks[t] for t in shared] for _, tasks in sorted(models.items())])
            for loops, models in sorted(counts.items())
        },
        weights=np.ones(len(shared)),
        resamples=Resamples(len(shared), resamples),
        paired_models=paired,
    )


def _tasks_elsewhere(scores: _Scores, loops: int) -> set[str]:
    return {
        task
        for other, models in scores.items()
        if other != loops
        for tasks in models.values()
        for task in tasks
    }
