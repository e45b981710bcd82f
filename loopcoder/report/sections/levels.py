"""Losses or scores of models trained at several loop counts, as figures."""

from collections.abc import Sequence

from loopcoder.loopcount.advice import Finding, LossTable
from loopcoder.loopcount.runs import Run
from loopcoder.loopcount.sweep import Level
from loopcoder.records.rows import ScoreRow
from loopcoder.report import plots
from loopcoder.report.numbers import (
    capital,
    count,
    files,
    in_loops,
    interval,
    number,
    signed,
    visible,
)
from loopcoder.report.parts import Figure, Table
from loopcoder.report.runs import Point


def levels_figure(name: str, table: LossTable, runs: Sequence[Run]) -> Figure:
    """What models trained at each loop count give, and the gains between them."""
    line = plots.Line(label="", style=0, points=level_points(table.levels))
    scores = _score_table(table, runs) if table.of == "tasks" else None
    bars = any(level.low is not None for level in table.levels)
    told = f" {table.of.capitalize()} differ widely; gains are paired, so that this cancels."
    return Figure(
        name=name,
        title=f"{capital(table.name)}, models trained at each loop count",
        panels=[plots.by_loop(name, "", table.unit, [line], across="loops trained and run")],
        sentence=_levels_said(table),
        key=f"{capital(table.basis)}: {files(table.source, table.basis)}."
        + (f" Bars: 95 % intervals over {table.of}.{told}" if bars else ""),
        tables=[_levels_table(table), *([scores] if scores else [])],
    )


def level_points(levels: Sequence[Level]) -> list[Point]:
    """Levels as a plot has them."""
    return [
        Point(level.loops, level.value, level.low, level.high, None, level.units, "")
        for level in levels
    ]


def _levels_said(table: LossTable) -> str:
    better = min if table.unit == "bits per byte" else max
    best = better(table.levels, key=lambda level: level.value)
    have = f"{in_loops(best.loops)} {'has' if best.loops == 1 else 'have'}"
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
        caption=f"{capital(table.name)}; {files(table.source, table.basis)}",
        words=frozenset({0, 5}),
    )


def _gain_cells(gain: Finding | None) -> tuple[str, str, str]:
    if gain is None:
        return "\u2013", "\u2013", "\u2013"
    return signed(gain.value), interval(gain.low99, gain.high99), gain.verdict


def _score_table(table: LossTable, runs: Sequence[Run]) -> Table | None:
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
        columns=("task", "metric", *map(in_loops, loops)),
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
