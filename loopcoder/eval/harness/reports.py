"""Reading what a harness wrote: JSON that is there and has the shape it should."""

import json
from pathlib import Path
from typing import Any

from loopcoder.errors import EvaluationError


def only_file(directory: Path, pattern: str, log: Path) -> Path:
    """The one file of that name. Raises `EvaluationError` where the harness left none."""
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        raise EvaluationError(
            f"the harness left {len(found)} files {pattern} in {directory}, not one; see {log}"
        )
    return found[0]


def read_report(path: Path) -> Any:
    """A report's values. Raises `EvaluationError` naming a file that cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{path}: not a report ({error}); remove its directory and run again"
        ) from error


def broken(path: Path, error: Exception) -> EvaluationError:
    """The error for a report that lacks what it should have."""
    name = type(error).__name__
    return EvaluationError(f"{path}: not the report expected ({name}: {error}); another version?")
