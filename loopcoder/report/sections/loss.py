"""Loss and scores by loop count: models trained for it, and one checkpoint stopped early."""

from collections.abc import Sequence

from loopcoder.loopcount.advice import Advice, Finding, LossTable
from loopcoder.loopcount.intervals import RESAMPLES
from loopcoder.loopcount.losses import exit_sweep, trained_sweep
from loopcoder.loopcount.runs import Evidence
from loopcoder.loopcount.runs import Run as RecordRun
from loopcoder.loopcount.sweep import Level, Sweep
from loopcoder.records.rows import ScoreRow
from loopcoder.report import plots
from loopcoder.report.numbers import capital, count, interval, number, signed, visible
from loopcoder.report.parts import Figure, Section, Table
from loopcoder.report.runs import Point
from loopcoder.report.sections.common import INTERVALS, PROBE


def loss(evidence: Evidence, advice: Advice | None) -> Section:
    """Trained models against each other, then each checkpoint's own curve."""
    tables = _compared(evidence, advice) if advice else []
    figures = [_levels_figure(table, i, evidence.runs) for i, table in enumerate(tables)]
    own = _exit_figure(evidence.measured)
    missing = []
    if not tables:
        missing = [
            "Not in these records: models of one architecture trained at several loop counts. "
            f"`{PROBE}` with each of them, on one text, compares them."
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


def _levels_figure(table: LossTable, number_of_table: int, runs: Sequence[RecordRun]) -> Figure:
    line = plots.Line(label="", style=0, points=_points(table.levels))
    name = f"loss-{number_of_table}"
    scores = _score_table(table, runs) if table.of == "tasks" else None
    bars = any(level.low is not None for level in table.levels)
    told = f" {table.of.capitalize()} differ widely; gains are paired, so that this cancels."
    return Figure(
        name=name,
        title=f"{capital(table.name)}, models trained at each loop count",
        panels=[plots.by_loop(name, "", table.unit, [line], across="loops trained and run")],
        sentence=_levels_said(table),
        key=f"{capital(table.basis)}: {visible(table.source)}."
        + (f" Bars: 95 % intervals over {table.of}.{told}" if bars else ""),
        tables=[_levels_table(table), *([scores] if scores else [])],
    )


def _points(levels: Sequence[Level]) -> list[Point]:
    return [
        Point(level.loops, level.value, level.low, level.high, None, level.units, "")
        for level in levels
    ]


def _levels_said(table: LossTable) -> str:
    better = min if table.unit == "bits per byte" else max
    best = better(table.levels, key=lambda level: level.value)
    have = "1 loop has" if best.loops == 1 else f"{best.loops} loops have"
    gain = next((gain for gain in table.gains if best.loops in (gain.fewer, gain.more)), None)
    told = f", better than {_better_than(gain, best.loops)}" if gain else ""
    return f"{have} the best {table.name}, {number(best.value)} {table.unit}{told}."


def _better_than(gain: Finding, best: int) -> str:
    if gain.more == best:
        return f"{gain.fewer} by {_certain(gain.value, gain.low99, gain.high99)}"
    low = None if gain.high99 is None else -gain.high99
    high = None if gain.low99 is None else -gain.low99
    return f"{gain.more} by {_certain(-gain.value, low, high)}"


def _certain(value: float, low: float | None, high: float | None) -> str:
    known = low is not None and high is not None
    return f"{number(value)} (99 %: {interval(low, high)})" if known else number(value)


def _levels_table(table: LossTable) -> Table:
    gains = {gain.more: gain for gain in table.gains}
    return Table(
        columns=(
            "loops",
            table.unit,
            "95 % interval",
            "gain over the count before",
            "99 % interval of the gain",
            "verdict",
            "models",
            table.of,
        ),
        rows=[
            (
                str(level.loops),
                number(level.value, 4),
                interval(level.low, level.high),
                *_gain_cells(gains.get(level.loops)),
                count(level.models),
                count(level.units),
            )
            for level in table.levels
        ],
        caption=f"{capital(table.name)}; {visible(table.source)}",
        words=frozenset({0, 5}),
    )


def _gain_cells(gain: Finding | None) -> tuple[str, str, str]:
    if gain is None:
        return "\u2013", "\u2013", "\u2013"
    return signed(gain.value), interval(gain.low99, gain.high99), gain.verdict


def _score_table(table: LossTable, runs: Sequence[RecordRun]) -> Table | None:
    """Every task behind a table of scores."""
    rows = [
        row
        for run in runs
        for row in run.of(ScoreRow)
        if row.loops is not None and (row.source.citation or run.name) in table.source
    ]
    loops = sorted({row.loops for row in rows if row.loops is not None})
    places = dict.fromkeys((row.task, row.metric, row.unit) for row in rows)
    if not rows:
        return None
    values = {(row.task, row.metric, row.unit, row.loops): row.value for row in rows}
    return Table(
        columns=("task", "metric", *(f"{r} loop{'' if r == 1 else 's'}" for r in loops)),
        rows=[
            (
                visible(task),
                visible(f"{metric}, {unit}"),
                *(number(values.get((task, metric, unit, r))) for r in loops),
            )
            for task, metric, unit in places
        ],
        caption="Every task",
        words=frozenset({0, 1}),
    )


def _exit_figure(runs: Sequence[RecordRun]) -> Figure | None:
    """Each checkpoint's loss if it stopped after a loop; None where no run has samples for it."""
    curves = [
        (_name(run), run.loops, sweep)
        for run in runs
        if run.loops > 1 and (sweep := exit_sweep([run], RESAMPLES))
    ]
    if not curves:
        return None
    lines = [
        plots.Line(label=f"R = {loops}", style=i, points=_points(sweep.levels))
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
