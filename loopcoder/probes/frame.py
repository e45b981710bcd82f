"""Records as a pandas frame, for questions that the command does not ask."""

from collections.abc import Iterable, Iterator
from typing import Any

from loopcoder.errors import LoopCoderError
from loopcoder.records.rows import MeasureRow, Row, SampleRow


def frame(rows: Iterable[Row]) -> Any:
    """The `MeasureRow`s as a `pandas.DataFrame`, a line for each measure, loop, layer and head.

    Columns: measure, loop, layer, head, mean, low, high, sd, samples, documents, model, loops.
    Raises `LoopCoderError` where pandas is not installed.
    """
    measured = (row for row in rows if isinstance(row, MeasureRow))
    columns = [*_COLUMNS, "samples", "documents", "model", "loops"]
    return _pandas().DataFrame([line for row in measured for line in _lines(row)], columns=columns)


def sample_frame(rows: Iterable[Row]) -> Any:
    """The `SampleRow`s as a `pandas.DataFrame`, a line for each sample, measure and loop.

    Columns: document, start, measure, loop, value, model, loops. Loss is in nats per token.
    """
    from loopcoder.records.measures import MEASURES

    lines = [
        {
            "document": row.document,
            "start": row.start,
            "measure": name,
            "loop": MEASURES[name].first_loop + i,
            "value": value,
            "model": _model(row),
            "loops": row.loops,
        }
        for row in rows
        if isinstance(row, SampleRow)
        for name, values in row.values.items()
        for i, value in enumerate(values)
    ]
    columns = ["document", "start", "measure", "loop", "value", "model", "loops"]
    return _pandas().DataFrame(lines, columns=columns)


_COLUMNS = ("measure", "loop", "layer", "head", "mean", "low", "high", "sd")


def _lines(row: MeasureRow) -> Iterator[dict[str, Any]]:
    heads = len(row.mean) if isinstance(row.mean, list) else 0
    for head in range(heads) or (None,):
        line: dict[str, Any] = {"measure": row.measure, "loop": row.loop, "layer": row.layer}
        line["head"] = head
        for name in ("mean", "low", "high", "sd"):
            value = getattr(row, name)
            line[name] = value[head] if isinstance(value, list) and head is not None else value
        yield line | {
            "samples": row.samples,
            "documents": row.documents,
            "model": _model(row),
            "loops": row.loops,
        }


def _model(row: Row) -> str | None:
    return None if row.source.model is None else row.source.model.name


def _pandas() -> Any:
    try:
        import pandas  # type: ignore[import-untyped]  # stubs are a package of their own
    except ImportError as error:
        raise LoopCoderError(
            "frames need pandas, which is not installed; pip install 'loopcoder[report]'"
        ) from error
    return pandas
