"""Which models the sections on single models show: of a study not all, or nothing can be read."""

from collections.abc import Sequence

from loopcoder.loopcount import Evidence, Run
from loopcoder.records.rows import (
    DepthRow,
    MatrixRow,
    MeasureRow,
    ModelIdentity,
    PassageRow,
    SampleRow,
    TrainingRow,
)
from loopcoder.report.numbers import listed, visible

_PROBED = (MeasureRow, SampleRow, MatrixRow, PassageRow)
_STUDIED = (TrainingRow, DepthRow)


def shown_runs(evidence: Evidence) -> tuple[list[Run], list[str]]:
    """Runs for the sections on single models, and notes on what is left out of these.

    Of a study's models of one loop count, which differ by their seeds, the first by name stays; of
    its other arms none does, unless there is nothing else.
    """
    models = _models(evidence.runs, _PROBED)
    arms = [model for model in models if model.arm is not None]
    if len(arms) == len(models):
        arms = []
    studied = {model.hash for model in _models(evidence.runs, _STUDIED)}
    stay = [model for model in models if model not in arms]
    seeds = _later_seeds([model for model in stay if model.hash in studied])
    hidden = {model.hash for model in (*arms, *seeds)}
    runs = [run for run in evidence.runs if run.model is None or run.model.hash not in hidden]
    return runs, [*_of_seeds([m for m in stay if m.hash not in hidden], seeds), *_of_arms(arms)]


def _models(runs: Sequence[Run], kinds: tuple[type, ...]) -> list[ModelIdentity]:
    found = {
        run.model.hash: run.model
        for run in runs
        if run.model and any(isinstance(row, kinds) for row in run.rows)
    }
    return sorted(found.values(), key=lambda model: (model.trained_loops, model.name))


def _later_seeds(models: Sequence[ModelIdentity]) -> list[ModelIdentity]:
    first: dict[tuple[str | None, int], ModelIdentity] = {}
    for model in models:
        first.setdefault((model.arm, model.trained_loops), model)
    return [model for model in models if model not in first.values()]


def _of_seeds(shown: Sequence[ModelIdentity], seeds: Sequence[ModelIdentity]) -> list[str]:
    if not seeds:
        return []
    names = listed([visible(model.name) for model in shown])
    return [
        f"Of several seeds of a loop count the sections on single models show the first: {names}. "
        "Losses and scores are of all seeds."
    ]


def _of_arms(arms: Sequence[ModelIdentity]) -> list[str]:
    if not arms:
        return []
    names = listed([visible(arm) for arm in sorted({model.arm or "" for model in arms})])
    return [f"Models of other arms ({names}) are in the sections on training and ablation alone."]
