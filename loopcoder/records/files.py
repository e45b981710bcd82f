"""Writing and reading record files: JSONL that is whole or says where it is not."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from loopcoder.errors import RecordError, file_errors
from loopcoder.records.rows import ROW, SCHEMA, AnyRow, Row


class RecordWriter:
    """Appends rows to an open file; each is on disk's way when `write` returns."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: Row) -> None:
        """Add one row."""
        self._file.write(row.model_dump_json(exclude_none=True) + "\n")


@contextmanager
def record_file(path: Path) -> Iterator[RecordWriter]:
    """A writer whose file takes its name at the end; on an error nothing is left behind.

    Raises `RecordError` where the system refuses to write.
    """
    partial = path.with_name(f".{path.name}.partial")
    with file_errors(RecordError, "choose a directory that can be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                yield RecordWriter(file)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def read_records(path: Path) -> list[AnyRow]:
    """The rows of one file. Raises `RecordError` naming the line that is not a row of ours."""
    with file_errors(RecordError, "give a record file, such as `loopcoder probe --out` writes"):
        raw = path.read_bytes()
    try:
        # Line feeds alone end rows: JSON leaves U+2028 and its like as they are in a string.
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not UTF-8 text ({error}); give a record file") from error
    rows = [_row(line, f"{path}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise RecordError(f"{path}: has no rows; run the command that should have written it again")
    return rows


def _row(line: str, where: str) -> AnyRow:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise RecordError(f"{where}: not JSON ({error}); the file may be cut off") from error
    found = values.get("schema") if isinstance(values, dict) else None
    if found is None:
        raise RecordError(
            f"{where}: a row without a schema version; give a file that `loopcoder probe` wrote"
        )
    if found != SCHEMA:
        raise RecordError(
            f"{where}: written in schema version {found} by loopcoder {_version(values)}, this one "
            f"reads version {SCHEMA}; measure again, or use the one that wrote it"
        )
    try:
        return ROW.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "kind"
        problem = f"{field}: {first['msg']}"
        raise RecordError(f"{where}: {problem}; the row was changed or cut off") from error


def _version(values: dict[str, object]) -> str:
    source = values.get("source")
    return str(source.get("version", "unknown")) if isinstance(source, dict) else "unknown"
