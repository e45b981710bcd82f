"""How alike the heads of a layer are: matrices of cosines, and the measures taken from them."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import MatrixRow, MeasureRow
from loopcoder.report import plots
from loopcoder.report.numbers import formula, listed, number, with_interval
from loopcoder.report.parts import Figure, Scale, Section, Table
from loopcoder.report.runs import Run, bounds, heads
from loopcoder.report.sections.common import PROBE, by_loops, loop_figure, missing

EVERY_PAIR = 8  # with more heads a table of all pairs is longer than anyone reads


def similarity(runs: Sequence[Run]) -> Section:
    """A small matrix for every layer and loop, and how many heads' worth of maps there are."""
    figures = [loop_figure(runs, "head_cosine", _overall)]
    for i, run in enumerate(runs):
        figures += [_matrices(run, i), _rank(run, i)]
    lines = missing(runs, ["head_cosine", "head_rank"])
    if not any(run.of(MatrixRow) for run in runs):
        lines.append(f"Not in these records: head-similarity matrices. `{PROBE}` measures them.")
    return Section(
        name="similarity",
        title="Head similarity",
        lead="The cosine between the attention maps of every two heads of a layer: 1 where two "
        "heads look at the same keys. Heads that grow alike from loop to loop do the same work.",
        figures=[figure for figure in figures if figure],
        missing=lines,
    )


def _overall(run: Run) -> str:
    return (
        f"Over all layers, the mean cosine of two heads is {by_loops(run.points('head_cosine'))}."
    )


def _matrices(run: Run, number_of_run: int) -> Figure | None:
    rows = sorted(run.of(MatrixRow), key=lambda row: (row.loop, row.layer))
    if not rows:
        return None
    low = min(0.0, *(value for row in rows for line in row.mean for value in line))
    panels = [
        plots.square(
            f"similarity-{number_of_run}-{row.loop}-{row.layer}",
            f"Layer {row.layer}",
            row.mean,
            low,
            1.0,
            group=f"Loop {row.loop}",
        )
        for row in rows
    ]
    return Figure(
        name=f"similarity-{number_of_run}",
        title=f"{run.label}: cosine between heads",
        panels=panels,
        sentence=_said(rows),
        scale=Scale(low=number(low, 2), high="1", unit="cosine"),
        tables=list(_tables(rows)),
    )


def _said(rows: Sequence[MatrixRow]) -> str:
    means = {(row.loop, row.layer): _alike(row) for row in rows}
    loops = sorted({loop for loop, _ in means})
    by_loop = [fmean(value for place, value in means.items() if place[0] == loop) for loop in loops]
    (loop, layer), most = max(means.items(), key=lambda item: item[1])
    said = listed([f"{number(v)} at loop {r}" for r, v in zip(loops, by_loop, strict=True)])
    return (
        f"The mean cosine of two different heads is {said}; heads are most alike in layer {layer} "
        f"at loop {loop} ({number(most)})."
    )


def _pairs(row: MatrixRow) -> dict[tuple[int, int], float]:
    size = len(row.mean)
    return {(i, j): row.mean[i][j] for i in range(size) for j in range(i + 1, size)}


def _alike(row: MatrixRow) -> float:
    pairs = _pairs(row)
    return fmean(pairs.values()) if pairs else 1.0


def _tables(rows: Sequence[MatrixRow]) -> Iterator[Table]:
    if not _pairs(rows[0]):
        return
    yield Table(
        columns=("loop", "layer", "mean cosine", "least alike", "most alike", "samples"),
        rows=[_summary(row) for row in rows],
        caption="Cosine between the maps of two heads; in brackets, which heads",
        words=frozenset({3, 4}),
    )
    if len(rows[0].mean) <= EVERY_PAIR:
        loops = sorted({row.loop for row in rows})
        values = {
            (row.loop, row.layer, *pair): value
            for row in rows
            for pair, value in _pairs(row).items()
        }
        places = sorted({place[1:] for place in values})
        yield Table(
            columns=("layer", "heads", *(f"loop {loop}, cosine" for loop in loops)),
            rows=[
                (
                    str(layer),
                    f"{i} and {j}",
                    *(number(values.get((loop, layer, i, j))) for loop in loops),
                )
                for layer, i, j in places
            ],
            caption="Every two heads",
        )


def _summary(row: MatrixRow) -> tuple[str, ...]:
    pairs = _pairs(row)
    ends = [choose(pairs.items(), key=lambda item: item[1]) for choose in (min, max)]
    shown = (f"{number(value)} ({i} and {j})" for (i, j), value in ends)
    return str(row.loop), str(row.layer), number(_alike(row)), *shown, str(row.samples)


def _rank(run: Run, number_of_run: int) -> Figure | None:
    loops = run.layers("head_rank")
    if not loops:
        return None
    meant = MEASURES["head_rank"]
    bands = [
        plots.Band(
            label=f"loop {loop}",
            style=loop - 1,
            middle=[heads(row)[0] for row in layers.values()],
            low=[_or(bounds(row)[0][0], heads(row)[0]) for row in layers.values()],
            high=[_or(bounds(row)[0][1], heads(row)[0]) for row in layers.values()],
        )
        for loop, layers in loops.items()
    ]
    name = f"head-rank-{number_of_run}"
    means = [f"{number(fmean(band.middle))} different heads at {band.label}" for band in bands]
    cosines = run.layers("head_cosine")
    return Figure(
        name=name,
        title=f"{run.label}: head diversity",
        panels=[plots.by_layer(name, "", meant.unit, bands)],
        sentence=f"Averaged over layers, the maps of a layer count as {listed(means)}.",
        key="Bands: 95 % intervals of the mean over documents.",
        legend=tuple((band.style, band.label) for band in bands),
        tables=[
            Table(
                columns=("loop", "layer", "effective heads", "mean cosine of heads"),
                rows=[
                    (
                        str(loop),
                        str(layer),
                        with_interval(heads(row)[0], *bounds(row)[0]),
                        _cosine(cosines.get(loop, {}).get(layer)),
                    )
                    for loop, layers in loops.items()
                    for layer, row in layers.items()
                ],
                caption=f"{meant.title}: {formula(meant.definition)}; mean (95 % interval)",
            )
        ],
    )


def _cosine(row: MeasureRow | None) -> str:
    return "\u2013" if row is None else with_interval(heads(row)[0], *bounds(row)[0])


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
