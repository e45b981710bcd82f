"""Where the loops look: entropy of attention, its shift from loop to loop, and the gates."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import MeasureRow
from loopcoder.report import plots
from loopcoder.report.numbers import capital, formula, listed, number, signed, small, with_interval
from loopcoder.report.parts import Figure, Panel, Scale, Section, Table
from loopcoder.report.runs import Run, bounds, heads
from loopcoder.report.sections.common import missing

BRANCHES = {
    "attention_entropy_mixed": "Mixed: what the layer uses",
    "attention_entropy_global": "Global branch: loop 1's keys",
    "attention_entropy_local": "Local branch: the own window",
}

Layers = Mapping[int, MeasureRow]


def attention(runs: Sequence[Run]) -> Section:
    """Entropy by layer, and shift by layer and head."""
    figures = [_entropy(run, i) for i, run in enumerate(runs)]
    figures += [_heat(run, i, "attention_shift", _shift_said) for i, run in enumerate(runs)]
    return Section(
        name="attention",
        title="Attention: how wide, and how it moves",
        lead="Entropy tells how widely a head's attention is spread: 0 is one key, log n all of "
        "n keys alike. Loop 1 has one branch; later loops mix a global branch, over the keys of "
        "loop 1, with a local one over their own window. Shift is how far the mixed map moves "
        "from the loop before.",
        figures=[figure for figure in figures if figure],
        missing=[
            *missing(runs, list(BRANCHES)[:1]),
            *missing(runs, [*list(BRANCHES)[2:], "attention_shift"], loops=2),
        ],
    )


def gates(runs: Sequence[Run]) -> Section:
    """How much each head reads loop 1's memory, and how much its own window."""
    figures = [_heat(run, i, "gate", _gate_said, span=(0.0, 1.0)) for i, run in enumerate(runs)]
    return Section(
        name="gates",
        title="Gates",
        lead="The mean gate of every head: at 1 it reads loop 1's memory only, at 0 its own "
        "window only. A gate starts training at 0.5.",
        figures=[figure for figure in figures if figure],
        missing=missing(runs, ["gate"], loops=2),
    )


def _entropy(run: Run, number_of_run: int) -> Figure | None:
    found = {branch: run.layers(branch) for branch in BRANCHES}
    if not any(found.values()):
        return None
    panels = [
        _bands(f"entropy-{number_of_run}-{branch[18:]}", branch, loops)
        for branch, loops in found.items()
        if loops
    ]
    return Figure(
        name=f"entropy-{number_of_run}",
        title=f"{run.label}: attention entropy",
        panels=panels,
        sentence=_entropy_said(next(loops for loops in found.values() if loops)),
        key="Lines: mean of the heads. Bands: from the lowest head to the highest.",
        legend=tuple((loop - 1, f"loop {loop}") for loop in range(1, run.loops + 1)),
        tables=[_head_table(branch, loops) for branch, loops in found.items() if loops],
    )


def _bands(name: str, branch: str, loops: Mapping[int, Layers]) -> Panel:
    bands = [
        plots.Band(
            label=f"loop {loop}",
            style=loop - 1,
            middle=[fmean(heads(row)) for row in layers.values()],
            low=[min(heads(row)) for row in layers.values()],
            high=[max(heads(row)) for row in layers.values()],
        )
        for loop, layers in loops.items()
    ]
    return plots.by_layer(name, BRANCHES[branch], "entropy, nats", bands)


def _entropy_said(loops: Mapping[int, Layers]) -> str:
    means = {loop: _mean(layers) for loop, layers in loops.items()}
    said = listed([f"{number(value)} nats at loop {loop}" for loop, value in means.items()])
    said = f"Over all layers and heads, the attention that is used has a mean entropy of {said}"
    if len(means) < 2:
        return f"{said}."
    first, last = min(loops), max(loops)
    changes = {
        layer: fmean(heads(loops[last][layer])) - fmean(heads(loops[first][layer]))
        for layer in loops[first]
        if layer in loops[last]
    }
    most = max(changes, key=lambda layer: abs(changes[layer]))
    return (
        f"{said}; layer {most} changes most from loop {first} to loop {last} "
        f"({signed(changes[most])})."
    )


def _heat(
    run: Run,
    number_of_run: int,
    measure: str,
    says: Callable[[Mapping[int, Layers]], str],
    span: tuple[float, float] | None = None,
) -> Figure | None:
    loops = run.layers(measure)
    if not loops:
        return None
    meant = MEASURES[measure]
    values = [value for layers in loops.values() for row in layers.values() for value in heads(row)]
    low, high = span or (min(0.0, *values), max(values))
    panels = [
        plots.heat(
            f"{measure}-{number_of_run}-{loop}",
            f"Loop {loop}",
            [heads(row) for row in layers.values()],
            low,
            high,
        )
        for loop, layers in loops.items()
    ]
    return Figure(
        name=f"{measure}-{number_of_run}",
        title=f"{run.label}: {small(meant.title)} by layer and head",
        panels=panels,
        sentence=says(loops),
        scale=Scale(low=number(low, 2), high=number(high, 2), unit=meant.unit),
        tables=[_head_table(measure, loops)],
    )


def _shift_said(loops: Mapping[int, Layers]) -> str:
    said = []
    for loop, layers in loops.items():
        (layer, head), value = max(_cells(layers).items(), key=lambda cell: cell[1])
        said.append(
            f"loop {loop} moves attention by {number(_mean(layers))} nats on average, most in "
            f"layer {layer}, head {head} ({number(value)})"
        )
    return capital(f"{'; '.join(said)}.")


def _gate_said(loops: Mapping[int, Layers]) -> str:
    first = min(loops)
    cells = _cells(loops[first])
    (layer, head), least = min(cells.items(), key=lambda cell: cell[1])
    above = sum(value > 0.5 for value in cells.values())
    said = (
        f"At loop {first}, {above} of {len(cells)} heads read mostly loop 1's memory, and layer "
        f"{layer}, head {head} keeps most to its own window ({number(least)}); the mean gate is "
    )
    means = [f"{number(_mean(layers))} at loop {loop}" for loop, layers in loops.items()]
    return f"{said}{listed(means)}."


def _cells(layers: Layers) -> dict[tuple[int, int], float]:
    return {
        (layer, head): value
        for layer, row in layers.items()
        for head, value in enumerate(heads(row))
    }


def _mean(layers: Layers) -> float:
    return fmean(_cells(layers).values())


def _head_table(measure: str, loops: Mapping[int, Layers]) -> Table:
    """A row for every layer and head, a column for every loop."""
    meant = MEASURES[measure]
    some = next(iter(next(iter(loops.values())).values()))
    places = sorted({place for layers in loops.values() for place in _cells(layers)})
    shown = {
        (loop, layer, head): with_interval(value, *bounds(row)[head])
        for loop, layers in loops.items()
        for layer, row in layers.items()
        for head, value in enumerate(heads(row))
    }
    taken = f"{some.samples} samples, {some.documents} documents" if some.samples else "no counts"
    return Table(
        columns=("layer", "head", *(f"loop {loop}, {meant.unit}" for loop in loops)),
        rows=[
            (str(layer), str(head), *(shown.get((loop, layer, head), "\u2013") for loop in loops))
            for layer, head in places
        ],
        caption=f"{meant.title}: mean (95 % interval); {taken}. {formula(meant.definition)}",
    )
