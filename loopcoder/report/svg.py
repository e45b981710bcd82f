"""matplotlib's figures as SVG that belongs to the page: its colours, its type, nothing fetched.

Colours that follow light and dark are drawn in stand-ins that no figure uses otherwise, and become
CSS variables afterwards.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES = tuple(f"#0a000{i}" for i in range(8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[tuple[int, tuple[float, ...]], ...] = (
    (0, ()),
    (0, (5, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (3, 1.5)),
    (0, (8, 3)),
    (0, (1, 2.5)),
    (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5)),
)

_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"}
_VARIABLES |= {colour: f"s{i}" for i, colour in enumerate(SERIES)}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names may hold $
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 10,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "text.color": INK,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.8,
    "lines.markersize": 6.5,
    "patch.linewidth": 0,
}


@contextmanager
def drawing(width: float, height: float) -> Iterator[tuple[Drawing, Axes]]:
    """A figure of one pair of axes, `width` x `height` in the page's pixels at full size."""
    with mpl.rc_context(_STYLE):
        figure = Drawing(figsize=(width / 72, height / 72), layout="constrained")
        yield figure, figure.add_subplot()


def inline(figure: Drawing, name: str, says: str) -> Markup:
    """`figure` as an element of the page; `name` keeps its ids apart, `says` is read aloud."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser sets the text and has the glyphs that matplotlib's own font may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        out = io.BytesIO()
        figure.savefig(out, format="svg")
    svg = ElementTree.fromstring(out.getvalue())
    _simplify(svg)
    _own_ids(svg, name)
    svg.attrib = {"viewBox": svg.attrib["viewBox"], "role": "img", "aria-label": says}
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


def _simplify(element: Element) -> None:
    """Drop what the page has itself: metadata, styles for all elements, namespaces, typefaces."""
    element.tag = element.tag.rpartition("}")[2]
    element.attrib = {_local(key): _value(key, text) for key, text in element.attrib.items()}
    if element.attrib.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    element.tail = None
    if element.tag != "text":
        element.text = None
    for child in list(element):
        _simplify(child)
        empty = child.tag in ("g", "defs") and len(child) == 0
        if empty or child.tag in ("metadata", "style"):
            element.remove(child)


def _local(key: str) -> str:
    return key.rpartition("}")[2]


def _value(key: str, text: str) -> str:
    if _local(key) in ("d", "x", "y"):  # hundredths of a pixel are enough
        text = re.sub(r"-?\d+\.\d+", lambda n: f"{round(float(n.group()), 2):g}", text)
        return re.sub(r"\s*([A-Za-z])\s*", r"\1", text)
    if _local(key) == "style":
        text = re.sub(r"\s*font-family: [^;]*;?", "", text)
        for colour, variable in _VARIABLES.items():
            text = text.replace(colour, f"var(--{variable})")
    return re.sub(r"\s+", "", text) if text.startswith("data:") else text


def _own_ids(svg: Element, name: str) -> None:
    """Keep the ids that something refers to, under a name of this figure's own."""
    reference = re.compile(r"(?:^|\(|=)#([\w.-]+)")
    used = {
        found
        for element in svg.iter()
        for key in ("href", "clip-path")
        for found in reference.findall(element.get(key, ""))
    }
    for element in svg.iter():
        if (own := element.attrib.pop("id", None)) in used:
            element.set("id", f"{name}-{own}")
        if element.get("href", "").startswith("#"):
            element.set("href", f"#{name}-{element.attrib['href'][1:]}")
        if clip := element.get("clip-path"):
            element.set("clip-path", clip.replace("url(#", f"url(#{name}-"))
