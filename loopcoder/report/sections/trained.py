"""The models that a study trained: on how much, at what cost, and how well they predict."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from loopcoder.loopcount import Study, StudyModel
from loopcoder.records.rows import TrainingRow
from loopcoder.report import plots
from loopcoder.report.numbers import amount, count, duration, in_loops, listed, number, visible
from loopcoder.report.parts import Figure, Section, Table
from loopcoder.report.runs import Point
from loopcoder.report.sections.common import NOTHING, of_study, setting, without_empty

_RANGE = "Bars: from the lowest seed to the highest."
Models = Sequence[StudyModel]


def trained(found: Sequence[Study]) -> Section | None:
    """Every model, by arm and loop count; None where no study trained one."""
    having = [study for study in found if any(model.training for model in study.models)]
    if not having:
        return None
    figures = [_figure(study, i, several=len(found) > 1) for i, study in enumerate(having)]
    return Section(
        name="trained",
        title="Trained models",
        lead="Every model of the study. Bits per byte are of held-out text, at the loops that a "
        "model was trained with; less is better. Models of one line differ by their seeds.",
        figures=[figure for figure in figures if figure],
        tables=[
            table
            for study in having
            for table in (make(study, several=len(found) > 1) for make in (_table, _settings))
            if table.rows
        ],
    )


def _figure(study: Study, number_of_study: int, *, several: bool) -> Figure | None:
    """Bits per byte by loop count, of the main arm and of models trained for several counts."""
    main = [point for group in study.main_groups if (point := _point(group, group[0].loops))]
    lines = [plots.Line(label="main arm", style=0, points=main)] if main else []
    for group in study.groups:
        points = [point for loops in group[0].counts if (point := _point(group, loops))]
        if len(points) > 1 and not group[0].main:
            label = f"{visible(group[0].arm)} (one model for all)"
            lines.append(plots.Line(label=label, style=len(lines), points=points))
    if not main:
        return None
    name = f"trained-{number_of_study}"
    unit = "bits per byte"
    spread = any(point.low is not None for line in lines for point in line.points)
    return Figure(
        name=name,
        title=of_study("Held-out bits per byte", study, several=several),
        panels=[plots.by_loop(name, "", unit, lines, across="loops", named=False)],
        sentence=_said(study),
        key=_RANGE if spread else "",
        legend=tuple((line.style, line.label) for line in lines) if len(lines) > 1 else (),
        tables=[_figure_table(lines)],
    )


def _point(group: Models, loops: int) -> Point | None:
    bits = _bits(group, loops)
    if not bits:
        return None
    low, high = (min(bits), max(bits)) if len(bits) > 1 else (None, None)
    return Point(loops, fmean(bits), low, high, None, None, "")


def _bits(group: Models, loops: int) -> list[float]:
    return [value for model in group if (value := model.bits_at(loops)) is not None]


def _said(study: Study) -> str:
    levels = {
        group[0].loops: fmean(bits)
        for group in study.main_groups
        if (bits := _bits(group, group[0].loops))
    }
    best = min(levels, key=lambda loops: levels[loops])
    have = f"{in_loops(best)} {'has' if best == 1 else 'have'}"
    if len(levels) == 1:
        return f"{have} {number(levels[best], 4)} bits per byte."
    rest = [f"{in_loops(r)} {number(v, 4)}" for r, v in levels.items() if r != best]
    return f"{have} the fewest bits per byte, {number(levels[best], 4)}; {listed(rest)}."


def _figure_table(lines: Sequence[plots.Line]) -> Table:
    return Table(
        columns=("models", "loops", "bits per byte, mean", "lowest seed", "highest seed"),
        rows=[
            (line.label, str(p.loop), number(p.mean, 4), number(p.low, 4), number(p.high, 4))
            for line in lines
            for p in line.points
        ],
        caption="Held-out bits per byte, by the trainer's own measurement",
    )


def _table(study: Study, *, several: bool) -> Table:
    having = [[m for m in group if m.training] for group in study.groups]
    columns = (
        "arm",
        "loops",
        "seeds",
        "bits per byte, mean",
        "of each seed",
        "before training",
        "at several counts",
        "parameters",
        "steps",
        "tokens",
        "training FLOPs of one",
        "time of one",
    )
    table = Table(
        columns=columns,
        rows=[_row(group) for group in having if group],
        caption=of_study("Models, by arm and loop count", study, several=several),
    )
    return without_empty(table)


def _row(group: Models) -> tuple[str, ...]:
    rows = [model.training for model in group if model.training]
    bits = [row.bits_per_byte for row in rows]
    start = [row.start_bits_per_byte for row in rows if row.start_bits_per_byte is not None]
    return (
        visible(group[0].arm),
        str(group[0].loops),
        ", ".join(str(row.seed) for row in rows),
        number(fmean(bits), 4),
        ", ".join(number(value, 4) for value in bits) if len(bits) > 1 else NOTHING,
        number(fmean(start), 4) if start else NOTHING,
        _elsewhere(rows),
        _each(count(row.parameters) for row in rows),
        _each(count(row.steps) for row in rows),
        _each(count(row.tokens) for row in rows),
        amount(fmean(row.flops for row in rows), "FLOP"),
        duration(fmean(row.seconds for row in rows)),
    )


def _each(values: Iterable[str]) -> str:
    """One value where all seeds agree."""
    return " or ".join(dict.fromkeys(values))


def _elsewhere(rows: Sequence[TrainingRow]) -> str:
    counts = sorted({loops for row in rows for loops in row.by_loops})
    told = [
        f"{loops}: {number(fmean(r.by_loops[loops] for r in rows if loops in r.by_loops), 4)}"
        for loops in counts
    ]
    return ", ".join(told) or NOTHING


def _settings(study: Study, *, several: bool) -> Table:
    """What tuning chose for each arm and loop count, or the recipe fixed."""
    rows = [model.training for model in study.models if model.training]
    names = list(dict.fromkeys(key for row in rows for key in row.settings))
    lines = [
        (
            visible(row.arm),
            str(row.loops),
            *(setting(row.settings[n]) if n in row.settings else NOTHING for n in names),
        )
        for row in rows
        if row.settings
    ]
    return Table(
        columns=("arm", "loops", *map(visible, names)),
        rows=list(dict.fromkeys(lines)),
        caption=of_study("Settings that they were trained with", study, several=several),
    )
