"""Gain against cost, loop by loop, both as multiples of loop 2's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loopcoder.loopcount.advice import Cost
from loopcoder.loopcount.costs import DECODE
from loopcoder.report import plots
from loopcoder.report.numbers import number, signed, with_interval
from loopcoder.report.parts import Figure, Section, Table
from loopcoder.report.runs import Point, Run
from loopcoder.report.sections.common import missing
from loopcoder.report.sections.costs import cost_figure
from loopcoder.report.sections.states import HARDLY

MIXED = (
    "\u03a9/\u2060\u0394p divides a length by nats: it orders the loops of one model and cannot be "
    "compared between models."
)


_LEGEND = {
    "\u0394p": "gain: output shift \u0394p",
    "rank": "gain: change of effective rank",
    "rank itself": "gain: effective rank itself, as loop 2's change is unknown or too small",
    "\u03a9": "cost: offset \u03a9",
}
MOST = 4.0  # times loop 2's change of rank; beyond it, that is too near zero to divide by


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one loop gains and costs; None where it was not measured."""

    loop: int
    shift: Point
    rank: float | None
    rank_change: float | None
    offset: Point


def scissors(runs: Sequence[Run], costs: Sequence[Cost]) -> Section:
    """The blades of every run that has both."""
    bill = cost_figure(costs)
    having = [(i, run) for i, run in enumerate(runs) if _steps(run)]
    return Section(
        name="scissors",
        title="Gain and cost of each loop",
        lead="Gain: how far a loop moves the prediction (\u0394p), and by how much it changes the "
        "effective rank of the states. Cost: \u03a9, what reading the state one token back "
        f"replaces. {MIXED}",
        figures=[*(_figure(run, i) for i, run in having), *([bill] if bill else [])],
        missing=[*missing(runs, ["output_shift", "offset_cost"], loops=2), *_unpaid(costs)],
    )


def _unpaid(costs: Sequence[Cost]) -> list[str]:
    """What is missing where no latency was measured."""
    if any(cost.basis == "measured" and cost.what == DECODE for cost in costs):
        return []
    bench = "`loopcoder bench decode --model MODEL --loops 1,2 --json > DIR/decode.json`"
    return [f"Not in these records: a measured latency. {bench} measures it."]


def _steps(run: Run) -> list[Step]:
    ranks = {p.loop: p.mean for p in run.points("effective_rank")}
    offsets = {p.loop: p for p in run.points("offset_cost")}
    return [
        Step(
            loop=p.loop,
            shift=p,
            rank=ranks.get(p.loop),
            rank_change=_change(ranks, p.loop),
            offset=offsets[p.loop],
        )
        for p in run.points("output_shift")
        if p.loop in offsets
    ]


def _change(ranks: Mapping[int, float], loop: int) -> float | None:
    known = loop in ranks and loop - 1 in ranks
    return ranks[loop] - ranks[loop - 1] if known else None


def _figure(run: Run, number_of_run: int) -> Figure:
    steps = _steps(run)
    name = f"scissors-{number_of_run}"
    lines = [*_gains(steps), *_costs(steps)]
    panels = [plots.blades(name, lines)] if len(steps) > 1 else []
    return Figure(
        name=name,
        title=run.label,
        panels=panels,
        sentence=_said(steps),
        tables=[_table(run, steps)],
        legend=tuple((line.style, _LEGEND[line.label]) for line in lines) if panels else (),
    )


def _gains(steps: Sequence[Step]) -> list[plots.Line]:
    lines = [_line("\u0394p", 0, steps, [step.shift.mean for step in steps])]
    changes, ranks = [step.rank_change for step in steps], [step.rank for step in steps]
    rises = (changes[0] or 0.0) > HARDLY * (ranks[0] or 0.0)
    if rises and max(abs(change or 0.0) for change in changes) <= MOST * (changes[0] or 0.0):
        lines.append(_line("rank", 2, steps, changes))
    elif ranks[0]:
        lines.append(_line("rank itself", 2, steps, ranks))
    return lines


def _costs(steps: Sequence[Step]) -> list[plots.Line]:
    return [_line("\u03a9", 1, steps, [step.offset.mean for step in steps])]


def _line(
    label: str, style: int, steps: Sequence[Step], values: Sequence[float | None]
) -> plots.Line:
    """Values over the size of loop 2's, so that what falls stays below what falls less."""
    base = abs(values[0] or 0.0) or 1.0
    points = [
        Point(step.loop, value / base, None, None, None, None, "")
        for step, value in zip(steps, values, strict=True)
        if value is not None
    ]
    return plots.Line(label=label, style=style, points=points)


def _said(steps: Sequence[Step]) -> str:
    if len(steps) == 1:
        return _single(steps[0])
    first = steps[0]
    least = min(steps[1:], key=lambda step: step.shift.mean)
    gain = 100 * least.shift.mean / (first.shift.mean or 1.0)
    cost = 100 * least.offset.mean / (first.offset.mean or 1.0)
    falling = [
        step.loop
        for step in steps
        if step.rank and step.rank_change and step.rank_change < -HARDLY * step.rank
    ]
    ranks = f"; the effective rank falls at loop {falling[0]}" if falling else ""
    return (
        f"Loop {least.loop} changes the prediction by {_percent(gain)} of what loop {first.loop} "
        f"does, at {_percent(cost)} of its offset cost{ranks}."
    )


def _percent(value: float) -> str:
    return f"{value:.0f} %" if value >= 1 else f"{number(value, 2)} %"


def _single(step: Step) -> str:
    change = step.rank_change
    ranks = "" if change is None else f" and effective rank by {signed(change)} directions"
    return (
        f"Loop {step.loop} changes the prediction by {number(step.shift.mean)} nats{ranks}, at an "
        f"offset cost of {number(step.offset.mean)}; to compare steps takes three loops or more."
    )


def _table(run: Run, steps: Sequence[Step]) -> Table:
    first = steps[0]
    return Table(
        columns=(
            "loop",
            "output shift \u0394p, nats",
            "change of effective rank, directions",
            "offset cost \u03a9, norm",
            "\u0394p, loop 2 = 1",
            "\u03a9, loop 2 = 1",
            "\u03a9/\u0394p, norm per nat",
        ),
        rows=[
            (
                str(step.loop),
                with_interval(step.shift.mean, step.shift.low, step.shift.high),
                "\u2013" if step.rank_change is None else signed(step.rank_change),
                with_interval(step.offset.mean, step.offset.low, step.offset.high),
                number(_over(step.shift.mean, first.shift.mean)),
                number(_over(step.offset.mean, first.offset.mean)),
                number(_over(step.offset.mean, step.shift.mean)),
            )
            for step in steps
        ],
        caption=f"{run.label}: gain and cost, means (with 95 % intervals). {_bounds(steps)}{MIXED}",
    )


def _bounds(steps: Sequence[Step]) -> str:
    told = dict.fromkeys(p.bounds for step in steps for p in (step.shift, step.offset) if p.bounds)
    return "".join(f"{text}. " for text in told)


def _over(value: float, base: float) -> float | None:
    return value / base if base else None
