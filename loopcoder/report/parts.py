"""What a page is made of; the templates say how each part looks."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class Table:
    """Numbers, already as text; `columns` name them with their units."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    caption: str
    words: frozenset[int] = frozenset({0})  # columns that hold words, not numbers


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawing, as SVG that stands in the page."""

    drawing: Markup
    group: str = ""  # panels of one group stand together
    small: bool = False  # one of many


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What the colours of a heat map stand for."""

    low: str
    high: str
    unit: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels, one sentence that says what to see in them, and the numbers behind them."""

    name: str
    panels: Sequence[Panel]
    sentence: str
    tables: Sequence[Table]
    title: str = ""
    key: str = ""  # what marks and bands stand for
    legend: tuple[tuple[int, str], ...] = ()  # style and label
    scale: Scale | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, what to know before looking, and figures; or a line on what is missing."""

    name: str
    title: str
    lead: str = ""
    figures: Sequence[Figure] = ()
    missing: Sequence[str] = ()
    tables: Sequence[Table] = ()
    template: str | None = None  # for what is neither figure nor table
    content: object = None

    @property
    def empty(self) -> bool:
        """Nothing but what is missing."""
        return not (self.figures or self.tables or self.content)
