"""How the state of a token moves from loop to loop: step, angle, fixed point, effective rank."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import SampleRow
from loopcoder.report import plots
from loopcoder.report.numbers import capital, listed, number, signed
from loopcoder.report.parts import Figure, Section, Table
from loopcoder.report.runs import Point, Run
from loopcoder.report.sections.common import by_loops, loop_figure, missing

HARDLY = 0.01  # changes of effective rank smaller than this share are called none
ALIGNED = 0.3  # cosines nearer to 0 are called neither forth nor back


def steps(runs: Sequence[Run]) -> Section:
    """Step size, update angle and fixed-point gap."""
    figures = [
        loop_figure(runs, "step_size", _step),
        loop_figure(runs, "update_angle", _angle),
        loop_figure(runs, "fixed_point_gap", _gap),
    ]
    measures = ("step_size", "update_angle", "fixed_point_gap")
    absent = missing(runs, measures[:1]) + missing(runs, measures[1:2], loops=2)
    return Section(
        name="steps",
        title="Step size and angle",
        lead="How far a loop moves a token's state, whether it goes on in the direction of the "
        "loop before or turns back, and how far one more loop would move it.",
        figures=[figure for figure in figures if figure],
        missing=[*absent, *missing(runs, measures[2:])],
    )


def rank(runs: Sequence[Run]) -> Section:
    """Effective rank: its mean by loop, and how samples differ."""
    mean = loop_figure(runs, "effective_rank", _rank)
    figures = [mean, *(_spread(run, i, title=len(runs) > 1) for i, run in enumerate(runs))]
    return Section(
        name="rank",
        title="Effective rank",
        lead="How many directions the states of a sample use. The paper's reading: a loop that "
        "still raises it adds something; one that lowers it folds states together.",
        figures=[figure for figure in figures if figure],
        missing=missing(runs, ["effective_rank"]),
    )


def _step(run: Run) -> str:
    points = run.points("step_size")
    said = f"A loop moves a token's state by {by_loops(points)} (norm)"
    if len(points) < 2:
        return f"{said}; there is no other loop to compare it with."
    return f"{said}: loop {max(points, key=lambda p: p.mean).loop} moves it most."


def _angle(run: Run) -> str:
    turns: dict[str, list[Point]] = {}
    for point in run.points("update_angle"):
        turns.setdefault(_turn(point.mean), []).append(point)
    said = []
    for turn, points in turns.items():
        one = len(points) == 1
        loops = f"loop{'' if one else 's'} {listed([str(p.loop) for p in points])}"
        cosines = f"cosine{'' if one else 's'} {listed([number(p.mean) for p in points])}"
        words = turn.split("|")[0 if one else 1]
        said.append(f"{loops} {words} ({cosines})")
    return capital(f"{listed(said)}.")


def _turn(cosine: float) -> str:
    """What a loop does, and several do."""
    if cosine > ALIGNED:
        return "goes on as the loop before|go on as the loop before each"
    if cosine < -ALIGNED:
        return "turns back on the loop before|turn back on the loop before each"
    return (
        "neither follows nor opposes the loop before|neither follow nor oppose the loop before each"
    )


def _gap(run: Run) -> str:
    points = run.points("fixed_point_gap")
    first, last = points[0], points[-1]
    said = f"One more loop would move the state by {number(first.mean)} after loop {first.loop}"
    if first is last:
        return f"{said}."
    share = number(last.mean / first.mean, 2) if first.mean else "\u2013"
    return f"{said} and by {number(last.mean)} after loop {last.loop}, {share} times as far: " + (
        "the loops are settling." if last.mean < 0.8 * first.mean else "they are not settling."
    )


def _rank(run: Run) -> str:
    points = run.points("effective_rank")
    said = f"The states use {by_loops(points, ' directions')}"
    if len(points) < 2:
        return f"{said}."
    changes = {now.loop: now.mean - before.mean for before, now in pairwise(points)}
    most = max(changes, key=lambda loop: abs(changes[loop]))
    if abs(changes[most]) < HARDLY * points[0].mean:
        return f"{said}: no loop changes that by {100 * HARDLY:.0f} %."
    return f"{said}: loop {most} changes that most ({signed(changes[most])})."


def _spread(run: Run, style: int, *, title: bool) -> Figure | None:
    """Every sample's effective rank; None where samples were not kept."""
    samples = [
        s.values["effective_rank"] for s in run.of(SampleRow) if "effective_rank" in s.values
    ]
    if not samples:
        return None
    columns = [list(values) for values in zip(*samples, strict=True)]
    groups = [(loop - 1, str(loop), values) for loop, values in enumerate(columns, 1)]
    meant = MEASURES["effective_rank"]
    return Figure(
        name=f"rank-spread-{style}",
        title=run.label if title else "",
        panels=[plots.spread(f"rank-spread-{style}", "Every sample", meant.unit, groups)],
        sentence=_spread_said(columns),
        key="Dots: samples. Box: the middle half, its line the median, the whisker all of them.",
        tables=[_spread_table(run, columns)],
    )


def _spread_said(columns: Sequence[Sequence[float]]) -> str:
    low, high = min(columns[-1]), max(columns[-1])
    said = f"At loop {len(columns)} samples reach from {number(low)} to {number(high)} directions"
    if len(columns) < 2:
        return f"{said}."
    pairs = list(zip(columns[-2], columns[-1], strict=True))
    rising = sum(after > before for before, after in pairs)
    return (
        f"{said}; loop {len(columns)} raises the rank of {rising} of {len(pairs)} samples, by "
        f"{signed(sum(after - before for before, after in pairs) / len(pairs))} on average."
    )


def _spread_table(run: Run, columns: Sequence[Sequence[float]]) -> Table:
    shares = (0, 0.25, 0.5, 0.75, 1)
    rows = [
        (
            str(loop),
            *(number(float(q)) for q in np.quantile(values, shares)),
            number(float(np.std(values, ddof=1)) if len(values) > 1 else None),
            str(len(values)),
        )
        for loop, values in enumerate(columns, 1)
    ]
    names = ("lowest", "lower quartile", "median", "upper quartile", "highest")
    return Table(
        columns=("loop", *names, "standard deviation", "samples"),
        rows=rows,
        caption=f"Effective rank over the samples of {run.label}, directions",
    )
