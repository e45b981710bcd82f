"""What each loop does to the prediction: the output lens and the loop at which tokens change."""

from collections.abc import Sequence

from loopcoder.records.measures import MEASURES
from loopcoder.report import plots
from loopcoder.report.numbers import listed, number
from loopcoder.report.parts import Figure, Section
from loopcoder.report.runs import Run
from loopcoder.report.sections.common import (
    INTERVALS,
    about,
    by_loops,
    legend,
    loop_figure,
    loop_table,
    main_run,
    missing,
    with_measure,
)


def lens(runs: Sequence[Run]) -> Section:
    """What could be read from the state after each loop: shift, truth rank, entropy."""
    figures = [
        loop_figure(runs, "output_shift", _shift),
        loop_figure(runs, "truth_rank", _truth),
        loop_figure(runs, "output_entropy", _entropy),
    ]
    measures = ("truth_rank", "output_entropy")
    return Section(
        name="lens",
        title="Output lens",
        lead="The prediction that the head makes from the state after each loop, although only "
        "the loop that a model was trained with has learned to be read.",
        figures=[figure for figure in figures if figure],
        missing=[*missing(runs, ["output_shift"], loops=2), *missing(runs, measures)],
    )


def peak(runs: Sequence[Run]) -> Section:
    """At which loop the prediction of a token changes most."""
    having = [run for run in with_measure(runs, "peak_share") if run.loops > 2]
    figures = []
    absent = missing(runs, ["peak_share"], loops=3)
    if not having and not absent:
        absent = [
            "With two loops the prediction changes at loop 2 only; shares need three or more."
        ]
    if having:
        meant, told = MEASURES["peak_share"], main_run(having)
        lines = [
            plots.Line(label=run.short, style=runs.index(run), points=run.points("peak_share"))
            for run in having
        ]
        figures = [
            Figure(
                name="peak",
                panels=[plots.shares("peak", meant.title, meant.unit, lines)],
                sentence=about(told, _peak(told), among=having),
                tables=[loop_table(having, "peak_share")],
                key=INTERVALS,
                legend=legend(having, runs),
            )
        ]
    return Section(
        name="peak",
        title="Peak loop",
        lead="The share of tokens whose prediction changes most at each loop.",
        figures=figures,
        missing=absent,
    )


def _shift(run: Run) -> str:
    points = run.points("output_shift")
    said = [f"loop {p.loop} by {number(p.mean)}" for p in points]
    first = f"Loop {points[0].loop} moves the prediction by {number(points[0].mean)} nats"
    if len(said) < 2:
        return f"{first} on average."
    return f"{first} on average, {listed(said[1:])}."


def _truth(run: Run) -> str:
    points = run.points("truth_rank")
    said = f"The median rank of the true next token is {by_loops(points)}"
    if len(points) < 2:
        return f"{said}; 1 is the top."
    best = min(points, key=lambda p: p.mean)
    return f"{said}; 1 is the top, and loop {best.loop} comes closest."


def _entropy(run: Run) -> str:
    points = run.points("output_entropy")
    said = f"The prediction's entropy is {by_loops(points, ' nats')}"
    if len(points) < 2:
        return f"{said}."
    change = points[-1].mean - points[0].mean
    surer = "surer" if change < 0 else "less sure"
    return f"{said}: the last loop is {surer} than the first by {number(abs(change))} nats."


def _peak(run: Run) -> str:
    points = run.points("peak_share")
    best = max(points, key=lambda p: p.mean)
    rest = [f"loop {p.loop} for {100 * p.mean:.0f} %" for p in points if p is not best]
    return (
        f"{100 * best.mean:.0f} % of tokens change most at loop {best.loop}; it is {listed(rest)}."
    )
