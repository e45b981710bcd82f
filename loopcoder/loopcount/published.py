"""The values of SPEC.md sections 5 and 7 as rows: what two papers measured on their own models."""

from importlib.resources import as_file, files

from loopcoder.records.files import read_records
from loopcoder.records.rows import AnyRow

PUBLISHED = "published.jsonl"


def published() -> list[AnyRow]:
    """Every published value, each row with its `citation`.

    The cost rows have none: they are this project's formulas for the same 7B shape.
    """
    with as_file(files(__package__) / PUBLISHED) as path:
        return read_records(path)
