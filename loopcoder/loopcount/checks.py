"""Whether measurements may be compared: one architecture, one text, nothing counted twice."""

from collections.abc import Sequence

from loopcoder.errors import RecordError
from loopcoder.loopcount.runs import Bench, Evidence, Run
from loopcoder.records.rows import DepthRow, ModelIdentity, SampleRow, TrainingRow

_SHAPE = (("layers", "layers"), ("width", "width"), ("heads", "query_heads"))


def check_comparable(evidence: Evidence) -> None:
    """Raises `RecordError` naming the two files that do not go together."""
    measured = evidence.measured
    if not measured:
        _check_arms(evidence.other_arms)
    for run in measured[1:]:
        _check_architecture(measured[0], run)
    _check_study([run for run in measured if _study(run)])
    sampled = [run for run in measured if run.of(SampleRow)]
    for run in sampled[1:]:
        _check_text(sampled[0], run)
    _check_copies(sampled)
    for bench in evidence.benches:
        for run in measured[:1]:
            _check_bench(bench, run)


def _check_arms(others: Sequence[Run]) -> None:
    arms = sorted({arm for run in others if (arm := _model(run).arm) is not None})
    if arms:
        raise RecordError(
            f"every model here is of an arm ({', '.join(arms)}), and arms are not compared by "
            "their loop counts; give the records of the study's main models too"
        )


def _check_study(runs: Sequence[Run]) -> None:
    """Models of two studies were trained on other data, or for longer."""
    for run in runs[1:]:
        if _study(run) != _study(runs[0]):
            raise RecordError(
                f"{runs[0].name} is of the study {_study(runs[0])}, {run.name} of "
                f"{_study(run)}: their models differ in more than loops; give one study's"
            )


def _study(run: Run) -> str | None:
    rows = (row for row in run.rows if isinstance(row, TrainingRow | DepthRow))
    return next((row.study for row in rows), None)


def _check_architecture(first: Run, other: Run) -> None:
    a, b = _model(first), _model(other)
    if a.architecture != b.architecture:
        raise RecordError(
            f"{first.name} is of {_shape(a)}, {other.name} of {_shape(b)}: two architectures, so "
            "their difference is not one of loops; compare models that differ in loops alone"
        )


def _check_text(first: Run, other: Run) -> None:
    a, b = first.data, other.data
    assert a is not None
    assert b is not None
    if (a.hash, a.length) != (b.hash, b.length):
        raise RecordError(
            f"{first.name} was measured on {a.name} ({a.hash[:12]}, samples of {a.length}), "
            f"{other.name} on {b.name} ({b.hash[:12]}, samples of {b.length}): a paired "
            "comparison needs one text; probe with the same --data, --samples, --length and --seed"
        )


def _check_copies(runs: Sequence[Run]) -> None:
    seen: dict[tuple[str, int], Run] = {}
    for run in runs:
        key = (_model(run).hash, run.loops)
        if key in seen:
            raise RecordError(
                f"{seen[key].name} and {run.name} are the same measurement twice: model "
                f"{key[0][:12]} at {key[1]} loops on the same text; give one of them"
            )
        seen[key] = run


def _check_bench(bench: Bench, run: Run) -> None:
    model = _model(run)
    for ours, theirs in _SHAPE:
        found = bench.model.get(theirs)
        if found is not None and found != getattr(model, ours):
            raise RecordError(
                f"{bench.name} was measured on {bench.model.get('name', 'a model')} with {ours} "
                f"{found}, {run.name} on {model.name} with {getattr(model, ours)}; give a bench "
                "of the same model"
            )


def _model(run: Run) -> ModelIdentity:
    assert run.model is not None
    return run.model


def _shape(model: ModelIdentity) -> str:
    return f"{model.name} ({model.layers} x {model.width}, {model.architecture[:12]})"
