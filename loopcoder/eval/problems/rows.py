"""Reading a benchmark's file: every row checked, every bad one named, or none of it is used."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from loopcoder.errors import EvaluationError, file_errors

SHOWN = 5  # bad rows named one by one; the rest are counted
GZIP_MAGIC = b"\x1f\x8b"


class Row(BaseModel):
    """A row's format: types are taken as they stand, fields we do not use may be there."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    def key(self) -> str:
        """What names this row among the others."""
        raise NotImplementedError


RowT = TypeVar("RowT", bound=Row)


def read_rows(path: Path, form: type[RowT]) -> list[RowT]:
    """The rows of a JSON Lines file or of a JSON array, plain or compressed with gzip.

    Raises one `EvaluationError` that names the bad rows by line (of an array: by item), and field.
    """
    content = _content(path)
    array = content.lstrip()[:1] == b"["
    place = "item" if array else "line"
    rows: list[RowT] = []
    bad: list[str] = []
    first: dict[str, int] = {}
    for number, value in _items(path, content) if array else _lines(content):
        try:
            row = form.model_validate(_parsed(value))
        except ValueError as error:
            bad.append(f"{place} {number}: {_reason(error)}")
            continue
        earlier = first.setdefault(row.key(), number)
        if earlier == number:
            rows.append(row)
        else:
            bad.append(f"{place} {number}: id {row.key()!r} is that of {place} {earlier} too")
    _complain(path, bad, place, len(rows))
    return rows


def _content(path: Path) -> bytes:
    """The file's bytes, decompressed where they are compressed, whatever the file is called."""
    with file_errors(EvaluationError, "give the path of a benchmark file that can be read"):
        content = path.read_bytes()
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise EvaluationError(
            f"{path}: broken gzip data ({error}); the file is cut off or damaged, get it again"
        ) from error


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _items(path: Path, content: bytes) -> Iterable[tuple[int, Any]]:
    try:
        return enumerate(json.loads(content), start=1)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: no JSON array ({error}); get the file again") from error


def _parsed(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return json.loads(value)
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 at byte {error.start + 1}") from error
    except RecursionError as error:
        raise ValueError("no JSON: it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} at column {error.colno}") from error


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return ", ".join(_field(found) for found in error.errors(include_url=False))


def _field(found: Any) -> str:
    message = str(found["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if not found["loc"]:  # the row as a whole
        return message if found["type"] == "value_error" else "no JSON object"
    name = ".".join(map(str, found["loc"]))
    if found["type"] == "missing":
        return f"field {name!r} is missing"
    return f"field {name!r} {message}"


def _complain(path: Path, bad: list[str], place: str, good: int) -> None:
    if bad:
        named = "; ".join(bad[:SHOWN])
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise EvaluationError(
            f"{path}: {len(bad)} of {good + len(bad)} {place}s cannot be used: {named}{more}; "
            "mend them or get the file again, part of a benchmark is not scored"
        )
    if not good:
        raise EvaluationError(f"{path}: no problems in it; get the file again")
