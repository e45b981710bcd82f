"""The kinds of drawing that a page has; all loops, layers and heads stand at whole numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import FixedLocator, MaxNLocator

from loopcoder.report.parts import Panel
from loopcoder.report.runs import Point
from loopcoder.report.svg import DASHES, INK, MARKERS, MUTED, PAPER, SERIES, drawing, inline

WIDTH, HEIGHT = 360, 236
SMALL = 150
COLOURS = "cividis"
MOST_LETTERS = 24  # of a name beside a drawing
MOST_WRITTEN = 96  # cells; more and their numbers would not be legible


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a plot: a run, or a loop; `style` numbers its colour, marker and dashes."""

    label: str
    style: int
    points: Sequence[Point]


@dataclass(frozen=True, kw_only=True)
class Band:
    """Values by layer: their middle, and from where to where they reach."""

    label: str
    style: int
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def by_loop(
    name: str,
    title: str,
    unit: str,
    lines: Sequence[Line],
    *,
    span: tuple[float | None, float | None] = (None, None),
    across: str = "loop",
    named: bool = True,
) -> Panel:
    """Means with 95 % intervals at each loop; `span` is what the upward axis must reach.

    `named` writes the names of several lines at their ends.
    """
    with drawing(WIDTH, HEIGHT) as (figure, axes):
        apart = _apart(len(lines))
        for line, shift in zip(lines, apart, strict=True):
            _line(axes, line, shift)
        axes.set_ylim(*span)
        if span[0] is not None and span[0] < 0:
            axes.axhline(0, color=MUTED, linewidth=0.8)
        _loops(axes, sorted({p.loop for line in lines for p in line.points}))
        _titles(axes, title, across, unit)
        if named and len(lines) > 1:
            _labels(axes, [(line.label, line.style, line.points[-1]) for line in lines])
        return Panel(drawing=inline(figure, name, f"{title or unit} in {unit}, by {across}"))


def by_hops(
    name: str, title: str, unit: str, lines: Sequence[Line], *, trained: int, top: float
) -> Panel:
    """Means with 95 % intervals at each number of hops; a line marks where training's end.

    The `loop` of a point is its number of hops here.
    """
    hops = sorted({point.loop for line in lines for point in line.points})
    span = hops[-1] - hops[0]
    with drawing(WIDTH, HEIGHT) as (figure, axes):
        for line, shift in zip(lines, _apart(len(lines)), strict=True):
            _line(axes, line, shift * max(1.0, span / 5))
        if hops[-1] > trained:
            axes.axvline(trained + 0.5, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_ylim(-0.04 * top, 1.04 * top)
        axes.set_xlim(hops[0] - 0.4 - span / 20, hops[-1] + 0.4 + span / 20)
        axes.xaxis.set_major_locator(_hop_ticks(hops))
        axes.yaxis.set_major_locator(_ticks())
        _titles(axes, _short(title), "hops", unit)
        return Panel(drawing=inline(figure, name, f"{title}: {unit}, by hops"))


def differences(
    name: str,
    title: str,
    unit: str,
    bars: Sequence[tuple[str, float, float | None, float | None]],
) -> Panel:
    """A dot with its interval for each (label, value, low, high), one below the other."""
    with drawing(WIDTH, 74 + 24 * len(bars)) as (figure, axes):
        axes.axvline(0, color=MUTED, linewidth=1.2)
        for place, (_, value, low, high) in enumerate(bars):
            if low is not None and high is not None:
                axes.hlines(place, low, high, color=SERIES[0], linewidth=1.6)
            axes.plot([value], [place], "o", color=SERIES[0])
        axes.set_yticks(range(len(bars)), [_short(label) for label, *_ in bars])
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        _titles(axes, title, unit, "")
        return Panel(drawing=inline(figure, name, f"{title}: {unit}"))


def blades(name: str, lines: Sequence[Line]) -> Panel:
    """Gains on the left axis, costs on the right; one scale, so that they can be compared."""
    values = [point.mean for line in lines for point in line.points]
    with drawing(WIDTH, HEIGHT) as (figure, axes):
        for line in lines:
            _line(axes, line, 0.0)
        axes.set_ylim(min(0.0, *values) - 0.08, 1.12 * max(values))
        axes.axhline(0, color=MUTED, linewidth=0.8)
        loops = sorted({p.loop for line in lines for p in line.points})
        _loops(axes, loops)
        axes.set_xlim(loops[0] - 0.3, loops[-1] + 0.32 * (loops[-1] - loops[0] + 0.6))
        _titles(axes, "", "loop", "gain, loop 2 = 1")
        right = axes.twinx()
        right.set_ylim(axes.get_ylim())
        right.yaxis.set_major_locator(_ticks())
        right.set_ylabel("cost, loop 2 = 1")
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        _labels(axes, [(line.label, line.style, line.points[-1]) for line in lines])
        return Panel(drawing=inline(figure, name, "Gain and cost of each loop over loop 2's"))


def by_layer(name: str, title: str, unit: str, bands: Sequence[Band]) -> Panel:
    """A line over the layers for each loop, with a band from the lowest to the highest head."""
    with drawing(WIDTH, HEIGHT) as (figure, axes):
        for band in bands:
            layers, colour = range(len(band.middle)), SERIES[band.style % 8]
            axes.fill_between(layers, band.low, band.high, color=colour, alpha=0.16)
            axes.plot(layers, band.middle, **_pen(band.style))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _titles(axes, title, "layer", unit)
        if len(bands) > 1:
            _labels(axes, [(b.label, b.style, _end(b)) for b in bands])
        return Panel(drawing=inline(figure, name, f"{title} in {unit}, by layer"))


def spread(
    name: str, title: str, unit: str, groups: Sequence[tuple[int, str, Sequence[float]]]
) -> Panel:
    """Every sample as a dot beside a box from quartile to quartile; (style, label, values)."""
    draw = np.random.default_rng(0)
    with drawing(WIDTH, HEIGHT) as (figure, axes):
        for place, (style, _, values) in enumerate(groups):
            colour = SERIES[style % 8]
            across = place + 0.2 + draw.uniform(-0.08, 0.08, len(values))
            axes.plot(across, values, "o", color=colour, markersize=3, alpha=0.45, mew=0)
            _box(axes, place - 0.12, values, colour)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.set_xticks(range(len(groups)), [label for _, label, _ in groups])
        _titles(axes, title, "loop", unit)
        return Panel(drawing=inline(figure, name, f"{title} in {unit}, every sample, by loop"))


def shares(name: str, title: str, unit: str, lines: Sequence[Line]) -> Panel:
    """Bars at each loop, side by side for several runs, with 95 % intervals."""
    with drawing(WIDTH, HEIGHT) as (figure, axes):
        width = 0.6 / max(len(lines), 1)
        for number, line in enumerate(lines):
            for point in line.points:
                x = point.loop + (number - (len(lines) - 1) / 2) * width
                axes.bar(x, point.mean, 0.9 * width, color=SERIES[line.style % 8])
                if point.low is not None and point.high is not None:
                    axes.vlines(x, point.low, point.high, color=INK, linewidth=1.2)
                top = point.mean if point.high is None else point.high
                axes.annotate(
                    f"{point.mean:.2f}", (x, top), (0, 3), textcoords="offset points", ha="center"
                )
        axes.set_ylim(0, 1.12)
        _loops(axes, sorted({p.loop for line in lines for p in line.points}))
        _titles(axes, title, "loop", unit)
        return Panel(drawing=inline(figure, name, f"{title}: {unit}, by loop"))


def heat(
    name: str, title: str, values_LH: Sequence[Sequence[float]], low: float, high: float
) -> Panel:
    """Layers downwards, heads across; numbers in the cells where there is room for them."""
    grid = np.asarray(values_LH, dtype=float)
    layers, count = grid.shape
    with drawing(WIDTH, 62 + min(30, 250 / layers) * layers) as (figure, axes):
        axes.grid(visible=False)
        mesh = axes.pcolormesh(grid, cmap=COLOURS, vmin=low, vmax=high, linewidth=0.4)
        mesh.set_edgecolor(PAPER)
        axes.invert_yaxis()
        _cells(axes, layers, count)
        axes.spines[:].set_visible(False)
        _titles(axes, title, "head", "layer")
        if grid.size <= MOST_WRITTEN and count <= 9:
            _write(axes, grid, low, high, 10.5)
        return Panel(drawing=inline(figure, name, f"{title}: colour by layer and head"))


def square(
    name: str,
    title: str,
    values_HH: Sequence[Sequence[float]],
    low: float,
    high: float,
    *,
    group: str,
) -> Panel:
    """Heads against heads, one of many; as an image, so that many heads stay small."""
    says = f"Cosine between heads, {group.lower()}, {title.lower()}"
    grid = np.asarray(values_HH, dtype=float)
    size = len(grid)
    with drawing(SMALL, SMALL + 22) as (figure, axes):
        axes.grid(visible=False)
        edges = (0, size, size, 0)
        axes.imshow(grid, cmap=COLOURS, vmin=low, vmax=high, interpolation="none", extent=edges)
        _cells(axes, size, size, most=(4, 4))
        axes.spines[:].set_visible(False)
        _titles(axes, title, "head", "head")
        if size <= 4:
            _write(axes, grid, low, high, 9)
        return Panel(drawing=inline(figure, name, says), small=True, group=group)


def _end(band: Band) -> Point:
    return Point(len(band.middle) - 1, band.middle[-1], None, None, None, None, "")


def _pen(style: int) -> dict[str, Any]:
    return {
        "color": SERIES[style % 8],
        "marker": MARKERS[style % 8],
        "linestyle": DASHES[style % 8],
    }


def _line(axes: Axes, line: Line, shift: float) -> None:
    x = [point.loop + shift for point in line.points]
    for place, point in zip(x, line.points, strict=True):
        if point.low is not None and point.high is not None:
            axes.vlines(place, point.low, point.high, color=SERIES[line.style % 8], linewidth=1.6)
    axes.plot(x, [point.mean for point in line.points], **_pen(line.style))


def _apart(count: int) -> list[float]:
    """Sideways shifts, so that the intervals of several lines do not hide each other."""
    return [0.05 * (i - (count - 1) / 2) for i in range(count)]


def _loops(axes: Axes, loops: Sequence[int]) -> None:
    first, last = (loops[0], loops[-1]) if loops else (1, 1)
    axes.set_xlim(first - 0.4, last + 0.4)
    axes.xaxis.set_major_locator(FixedLocator(range(first, last + 1)))
    axes.yaxis.set_major_locator(_ticks())


def _ticks() -> MaxNLocator:
    return MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])


def _hop_ticks(hops: Sequence[int]) -> FixedLocator:
    """The numbers of hops that were asked, as many as can be read."""
    kept = [hops[0]]
    for hop in hops[1:]:
        if hop - kept[-1] >= (hops[-1] - hops[0]) / 14:
            kept.append(hop)
    return FixedLocator(kept)


def _short(label: str) -> str:
    """A name that leaves room for the drawing beside it."""
    return label if len(label) <= MOST_LETTERS else f"{label[: MOST_LETTERS - 1]}\u2026"


def _titles(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def _cells(axes: Axes, down: int, across: int, most: tuple[int, int] = (14, 10)) -> None:
    """Number rows and columns in the middle of their cells, not more than can be read."""
    for axis, size, labels in ((axes.yaxis, down, most[0]), (axes.xaxis, across, most[1])):
        step = math.ceil(size / labels)
        axis.set_major_locator(FixedLocator([i + 0.5 for i in range(0, size, step)]))
        axis.set_ticklabels([str(i) for i in range(0, size, step)])


def _write(axes: Axes, grid: npt.NDArray[np.float64], low: float, high: float, size: float) -> None:
    scale, colours = Normalize(low, high), colormaps[COLOURS]
    for (i, j), value in np.ndenumerate(grid):
        red, green, blue, _ = colours(scale(value))
        light = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45
        colour = "#000000" if light else "#ffffff"
        text = f"{value:.2f}"
        axes.text(j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=size, color=colour)


def _box(axes: Axes, x: float, values: Sequence[float], colour: str) -> None:
    low, q1, middle, q3, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    axes.vlines(x, low, high, color=colour, linewidth=1.2)
    axes.bar(x, q3 - q1, 0.2, bottom=q1, color=colour, alpha=0.35)
    axes.hlines(middle, x - 0.1, x + 0.1, color=colour, linewidth=2)


def _labels(axes: Axes, ends: Sequence[tuple[str, int, Point]]) -> None:
    """Name each line at its end; names that would lie on each other are pushed apart."""
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    closest = (top - bottom) * 13 / (HEIGHT - 60)
    highest: dict[int, float] = {}
    for label, style, end in sorted(ends, key=lambda each: each[2].mean):
        place = max(end.mean, highest.get(end.loop, -math.inf) + closest)
        highest[end.loop] = place
        axes.annotate(
            label,
            (end.loop, place),
            (11, 0),
            textcoords="offset points",
            va="center",
            color=SERIES[style % 8],
            annotation_clip=False,
        )
