"""The rows of record files, sorted by the run that they tell of."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from loopcoder.records.rows import (
    AnyRow,
    CostRow,
    MatrixRow,
    MeasureRow,
    NoteRow,
    PassageRow,
    Row,
    SampleRow,
    Source,
)
from loopcoder.report.numbers import visible

_Row = TypeVar("_Row", bound=Row)


class Point(NamedTuple):
    """A measure at one loop: mean, 95 % interval, and what it was taken from."""

    loop: int
    mean: float
    low: float | None
    high: float | None
    samples: int | None
    documents: int | None
    bounds: str  # what low and high are, where they are no confidence interval


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model, run at one loop count on one text; or what a paper says of one."""

    label: str  # unique on the page
    short: str  # for a place at the end of a line
    loops: int
    trained_loops: int | None
    citation: str | None
    rows: tuple[AnyRow, ...]

    def of(self, kind: type[_Row]) -> list[_Row]:
        """All rows of one kind."""
        return [row for row in self.rows if isinstance(row, kind)]

    def points(self, measure: str) -> list[Point]:
        """A measure that has one value a loop, in the order of loops."""
        rows = (r for r in self.of(MeasureRow) if r.measure == measure and r.layer is None)
        points = (
            Point(
                loop=r.loop,
                mean=r.mean,
                low=_one(r.low),
                high=_one(r.high),
                samples=r.samples,
                documents=r.documents,
                bounds=str(r.conventions.get("interval", "")),
            )
            for r in rows
            if isinstance(r.mean, float)
        )
        return sorted(points, key=lambda point: point.loop)

    def layers(self, measure: str) -> dict[int, dict[int, MeasureRow]]:
        """A measure that has a value, or one a head, for every layer: by loop, then layer."""
        found: dict[int, dict[int, MeasureRow]] = {}
        for row in self.of(MeasureRow):
            if row.measure == measure and row.layer is not None:
                found.setdefault(row.loop, {})[row.layer] = row
        return {loop: dict(sorted(found[loop].items())) for loop in sorted(found)}


def heads(row: MeasureRow) -> list[float]:
    """The means of a row's heads; a layer's own value counts as one."""
    return row.mean if isinstance(row.mean, list) else [row.mean]


def bounds(row: MeasureRow) -> list[tuple[float | None, float | None]]:
    """The intervals that belong to `heads`."""
    size = len(heads(row))
    return list(zip(_many(row.low, size), _many(row.high, size), strict=True))


def sort_runs(rows: Iterable[AnyRow]) -> list[Run]:
    """Runs in the order of loops, then of appearance; published ones last.

    Rows that belong to a model rather than to a loop count (what R loops would cost, notes) go to
    each of its runs; scores and timings, which compare loop counts, to none.
    """
    rows = list(rows)
    keys = {_key(row.source, loops): None for row in rows if (loops := _ran(row)) is not None}
    runs = [_run(key, [row for row in rows if _belongs(row, key)]) for key in keys]
    runs.sort(key=lambda run: (run.citation is not None, run.loops))
    return _named_apart(runs)


_Key = tuple[str, str, int]


def _ran(row: AnyRow) -> int | None:
    return row.loops if isinstance(row, MeasureRow | SampleRow | MatrixRow | PassageRow) else None


def _key(source: Source, loops: int) -> _Key:
    model = source.model.hash if source.model else source.citation or source.command
    return model, source.data.hash if source.data else "", loops


def _belongs(row: AnyRow, key: _Key) -> bool:
    if (loops := _ran(row)) is not None:
        return _key(row.source, loops) == key
    return isinstance(row, CostRow | NoteRow) and _key(row.source, key[2])[0] == key[0]


def _run(key: _Key, rows: Sequence[AnyRow]) -> Run:
    source, loops = rows[0].source, key[2]
    model = source.model
    trained = model.trained_loops if model else None
    name = visible(model.name if model else (source.citation or "unknown model").split(",")[0])
    other = f", trained at {trained}" if trained not in (None, loops) else ""
    published = ", published" if source.citation else ""
    return Run(
        label=f"{name} (R\u00a0=\u00a0{loops}{other}{published})",
        short=f"R = {loops}" + (" (paper)" if source.citation else ""),
        loops=loops,
        trained_loops=trained,
        citation=source.citation,
        rows=tuple(rows),
    )


def _named_apart(runs: list[Run]) -> list[Run]:
    labels, shorts = (Counter(getattr(run, name) for run in runs) for name in ("label", "short"))
    named = []
    for number, run in enumerate(runs, 1):
        mark = f" #{number}"
        named.append(
            replace(
                run,
                label=run.label + (mark if labels[run.label] > 1 else ""),
                short=run.short + (mark if shorts[run.short] > 1 else ""),
            )
        )
    return named


def _one(value: float | list[float] | None) -> float | None:
    return value if isinstance(value, float) else None


def _many(value: float | list[float] | None, size: int) -> list[float | None]:
    return [*value] if isinstance(value, list) else [value] * size
