"""What loop counts cost over one loop: measured, by formula, or published; each says which."""

from collections.abc import Sequence

from loopcoder.loopcount.advice import Cost
from loopcoder.loopcount.costs import cost_ratio
from loopcoder.report import plots
from loopcoder.report.numbers import amount, listed, number, visible
from loopcoder.report.parts import Figure, Table
from loopcoder.report.runs import Point


def cost_figure(costs: Sequence[Cost]) -> Figure | None:
    """A line for each kind of cost; None without any."""
    kinds = list(dict.fromkeys(cost.what for cost in costs))
    lines = [
        line for i, what in enumerate(kinds) if len((line := _line(costs, what, i)).points) > 1
    ]
    if not lines:
        return None
    unit = "times one loop"
    return Figure(
        name="costs",
        title="What loops cost",
        panels=[
            plots.by_loop("costs", "", unit, lines, span=(0.0, None), across="loops", named=False)
        ],
        sentence=_said(costs, kinds),
        legend=tuple((line.style, _labelled(costs, line)) for line in lines),
        tables=[_table(costs)],
    )


def _line(costs: Sequence[Cost], what: str, style: int) -> plots.Line:
    counts = sorted({cost.loops for cost in costs if cost.what == what})
    best = [cost_ratio(costs, what, loops) for loops in counts]
    points = [Point(c.loops, c.ratio, None, None, None, None, "") for c in best if c]
    return plots.Line(label=what, style=style, points=points)


def _labelled(costs: Sequence[Cost], line: plots.Line) -> str:
    found = (cost_ratio(costs, line.label, point.loop) for point in line.points)
    bases = dict.fromkeys(cost.basis for cost in found if cost)
    return f"{line.label} ({' and '.join(bases)})"


def _said(costs: Sequence[Cost], kinds: Sequence[str]) -> str:
    found = [cost for what in kinds if (cost := cost_ratio(costs, what, 2))]
    if not found:
        return f"Costs of {listed(kinds)} over one loop; none is known for two loops, 2."
    told = [f"{number(cost.ratio)} times in {cost.what} ({cost.basis})" for cost in found]
    return f"Two loops cost, over one: {listed(told)}."


def _table(costs: Sequence[Cost]) -> Table:
    return Table(
        columns=("cost", "loops", "value", "times one loop", "basis", "conditions", "source"),
        rows=[
            (
                cost.what,
                str(cost.loops),
                amount(cost.value, cost.unit),
                number(cost.ratio),
                cost.basis,
                visible(cost.conditions),
                visible(cost.source),
            )
            for cost in costs
        ],
        caption="Every cost that can be compared with one loop",
        words=frozenset({0, 4, 5, 6}),
    )
