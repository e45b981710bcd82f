"""Loss and scores by loop count: models trained for it, and one checkpoint stopped early."""

from collections.abc import Iterator, Sequence

from loopcoder.loopcount import studies
from loopcoder.loopcount.advice import Advice, LossTable
from loopcoder.loopcount.intervals import RESAMPLES
from loopcoder.loopcount.losses import exit_sweep, trained_sweep
from loopcoder.loopcount.runs import Evidence
from loopcoder.loopcount.runs import Run as RecordRun
from loopcoder.loopcount.sweep import Sweep
from loopcoder.report import plots
from loopcoder.report.numbers import count, interval, number, visible
from loopcoder.report.parts import Figure, Section, Table
from loopcoder.report.sections.common import INTERVALS, PROBE
from loopcoder.report.sections.levels import level_points, levels_figure


def loss(evidence: Evidence, advice: Advice | None) -> Section:
    """Trained models against each other, then each checkpoint's own curve."""
    tables = _compared(evidence, advice) if advice else []
    figures = [levels_figure(f"loss-{i}", table, evidence.runs) for i, table in enumerate(tables)]
    own = _exit_figure(evidence)
    missing = []
    if not tables:
        what = "models of one architecture trained at several loop counts"
        if studies(evidence):
            what = "samples of held-out text read by models trained at several loop counts"
        missing = [
            f"Not in these records: {what}. `{PROBE}` with each of them, on one text, compares "
            "them."
        ]
    if own is None:
        missing.append(
            "Not in these records: samples of a checkpoint with two loops or more, whose loss "
            f"after each loop could be shown. `{PROBE}` writes them."
        )
    return Section(
        name="loss",
        title="Loss by loop count",
        lead="Held-out loss in bits per byte: less is better, and texts cut into other tokens can "
        "be compared. Documents, not tokens, are what intervals count.",
        figures=[*figures, *([own] if own else [])],
        missing=missing,
    )


def _compared(evidence: Evidence, advice: Advice) -> list[LossTable]:
    """The advice's tables of models trained at several loop counts, and of scores.

    Curves of one checkpoint have a figure of their own; the table of trained models, where there
    is one, comes before them.
    """
    losses = [table for table in advice.tables if table.of == "documents"]
    trained = losses[:1] if trained_sweep(evidence.measured, RESAMPLES) else []
    return [*trained, *(table for table in advice.tables if table.of == "tasks")]


def _exit_figure(evidence: Evidence) -> Figure | None:
    """Each checkpoint's loss if it stopped after a loop; None where no run has samples for it."""
    curves = [
        (name, sweep.loops[-1], sweep)
        for name, runs in _checkpoints(evidence)
        if (sweep := exit_sweep(runs, RESAMPLES))
    ]
    if not curves:
        return None
    lines = [
        plots.Line(label=f"R = {loops}", style=i, points=level_points(sweep.levels))
        for i, (_, loops, sweep) in enumerate(curves)
    ]
    label, _, longest = max(curves, key=lambda curve: curve[1])
    across = "last loop that is run"
    return Figure(
        name="exits",
        title="One checkpoint, stopped after each loop",
        panels=[plots.by_loop("exits", "", "bits per byte", lines, across=across)],
        sentence=_exit_said(label, longest),
        key=f"{INTERVALS} Documents differ widely; the difference is paired, so that this cancels. "
        "This tells how many loops to run a checkpoint, not how many to train: only the loop that "
        "it was trained with has learned to predict.",
        legend=tuple((i, name) for i, (name, _, _) in enumerate(curves)) if len(curves) > 1 else (),
        tables=[_exit_table(curves)],
    )


def _checkpoints(evidence: Evidence) -> Iterator[tuple[str, list[RecordRun]]]:
    """Runs that share a curve, and its name: the seeds of a study's loop count, else each alone."""
    runs = [run for run in evidence.measured if run.loops > 1]
    for study in studies(evidence):
        for group in study.main_groups:
            seeds = [run for run in runs if any(run is model.probe for model in group)]
            if len(seeds) > 1:
                many = f"R\u00a0=\u00a0{group[0].loops}, {len(seeds)} seeds"
                yield f"{visible(group[0].arm)} ({many})", seeds
                runs = [run for run in runs if run not in seeds]
    yield from ((_name(run), [run]) for run in runs)


def _name(run: RecordRun) -> str:
    assert run.model is not None
    trained = run.model.trained_loops
    other = "" if trained == run.loops else f", trained at {trained}"
    return f"{visible(run.model.name)} (R\u00a0=\u00a0{run.loops}{other})"


def _exit_said(label: str, sweep: Sweep) -> str:
    first, last = sweep.levels[0], sweep.levels[-1]
    best = min(sweep.levels, key=lambda level: level.value)
    if best is first:
        return (
            f"{label} is best after loop 1, at {number(first.value)} bits per byte; after loop "
            f"{last.loops} it has {number(last.value)}."
        )
    gain = sweep.gain(first.loops, best.loops)
    return (
        f"{label} is best after loop {best.loops}, at {number(best.value)} bits per byte: stopping "
        f"after loop 1 costs {number(gain.value)} (95 %: {interval(gain.low, gain.high)})."
    )


def _exit_table(curves: Sequence[tuple[str, int, Sweep]]) -> Table:
    return Table(
        columns=("model", "last loop", "bits per byte", "95 % interval", "documents"),
        rows=[
            (
                name,
                str(level.loops),
                number(level.value, 4),
                interval(level.low, level.high),
                count(level.units),
            )
            for name, _, sweep in curves
            for level in sweep.levels
        ],
        caption="Loss of each checkpoint if it stopped after a loop, bits per byte",
    )
