"""What the sections share: the figure of a measure by loop, its table, and what is missing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from loopcoder.loopcount import Study
from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import NoteRow
from loopcoder.report import plots
from loopcoder.report.numbers import (
    capital,
    count,
    formula,
    interval,
    listed,
    number,
    small,
    visible,
)
from loopcoder.report.parts import Figure, Table
from loopcoder.report.runs import Point, Run

PROBE = "loopcoder probe MODEL --data TEXT --samples N --out DIR"
NOTHING = "\u2013"  # an empty place of a table
INTERVALS = "Bars: 95 % intervals."
_SPANS = {
    "update_angle": (-1.08, 1.08),
    "truth_rank": (None, None),
    "effective_rank": (None, None),
    "output_entropy": (None, None),
    "peak_share": (0.0, 1.12),
}


def main_run(runs: Sequence[Run]) -> Run:
    """The run that sentences speak of: measured before published, then the one of most loops."""
    return max(runs, key=lambda run: (run.citation is None, run.loops))


def with_measure(runs: Sequence[Run], measure: str) -> list[Run]:
    """Runs that have a value by loop."""
    return [run for run in runs if run.points(measure)]


def loop_figure(runs: Sequence[Run], measure: str, says: Callable[[Run], str]) -> Figure | None:
    """A measure at every loop of every run; None where no run has it."""
    having = with_measure(runs, measure)
    if not having:
        return None
    meant, told = MEASURES[measure], main_run(having)
    lines = [
        plots.Line(label=run.short, style=runs.index(run), points=run.points(measure))
        for run in having
    ]
    return Figure(
        name=measure,
        panels=[
            plots.by_loop(
                measure, meant.title, meant.unit, lines, span=_SPANS.get(measure, (0.0, None))
            )
        ],
        sentence=about(told, says(told), among=having),
        tables=[loop_table(having, measure)],
        key=bars(having, measure),
        legend=legend(having, runs),
    )


def bars(runs: Sequence[Run], measure: str) -> str:
    """What the bars of a measure stand for, in words."""
    points = [p for run in runs for p in run.points(measure) if p.low is not None]
    told = {f"{capital(p.bounds)}." if p.bounds else INTERVALS: None for p in points}
    return " ".join(told)


def legend(having: Sequence[Run], runs: Sequence[Run]) -> tuple[tuple[int, str], ...]:
    """Which mark belongs to which run, where there are several."""
    return tuple((runs.index(run), run.label) for run in having) if len(having) > 1 else ()


def about(run: Run, sentence: str, *, among: Sequence[Run]) -> str:
    """`sentence`, and which run it is about where the figure shows several."""
    return sentence if len(among) < 2 else f"{run.label}: {small(sentence)}"


def loop_table(runs: Sequence[Run], measure: str) -> Table:
    """The numbers behind `loop_figure`."""
    meant = MEASURES[measure]
    return Table(
        columns=("model", "loop", f"mean, {meant.unit}", "95 % interval", "samples", "documents"),
        rows=[(run.label, *point_cells(p)) for run in runs for p in run.points(measure)],
        caption=f"{meant.title}, {meant.unit}: {formula(meant.definition)}",
    )


def point_cells(point: Point) -> tuple[str, ...]:
    """A point as a table shows it."""
    return (
        str(point.loop),
        number(point.mean),
        interval(point.low, point.high),
        count(point.samples),
        count(point.documents),
    )


def by_loops(points: Sequence[Point], unit: str = "") -> str:
    """The values in words, their unit once: 3.10 nats at loop 1 and 2.20 at loop 2."""
    said = [f"{number(point.mean)} at loop {point.loop}" for point in points]
    return listed(said).replace(" at", f"{unit} at", 1)


def missing(runs: Sequence[Run], measures: Sequence[str], *, loops: int = 1) -> list[str]:
    """One line for what no run has, the command that would measure it, and what the notes say."""
    absent = [name for name in measures if not any(_has(run, name) for run in runs)]
    if not absent:
        return []
    titles = ", ".join(small(MEASURES[name].title) for name in absent)
    needs = f" with a model of {loops} loops or more" if loops > 1 else ""
    lines = [f"Not in these records: {titles}. `{PROBE}`{needs} measures it."]
    notes = [note for run in runs for note in run.of(NoteRow)]
    told = [note.text for note in notes if note.measure in absent]
    return [*lines, *(f"Note: {text}" for text in dict.fromkeys(told))]


def _has(run: Run, measure: str) -> bool:
    return bool(run.points(measure) or run.layers(measure))


def of_study(caption: str, study: Study, *, several: bool) -> str:
    """`caption`, and of which study where the page shows several."""
    return f"{caption}: {visible(study.name)}" if several else caption


def setting(value: object) -> str:
    """A field of a recipe."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"[{', '.join(map(setting, value))}]"
    return f"{value:g}" if isinstance(value, float) else visible(str(value))


def without_empty(table: Table) -> Table:
    """`table` without the columns that have nothing in any row."""
    kept = [i for i in range(len(table.columns)) if any(row[i] != NOTHING for row in table.rows)]
    return replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        rows=[[row[i] for i in kept] for row in table.rows],
        words=frozenset(place for place, i in enumerate(kept) if i in table.words),
    )
