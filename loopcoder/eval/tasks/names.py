"""The tasks' names and the files that they read, for those who do not load inspect-ai."""

from pathlib import Path

from loopcoder.eval.problems.catalogue import BENCHMARKS
from loopcoder.eval.problems.download import find

# Tasks that are not called as their file is; None: no file of ours.
_FILES: dict[str, str | None] = {
    "cruxeval_input": "cruxeval",
    "cruxeval_output": "cruxeval",
    "bfcl": None,
}
TASK_NAMES: tuple[str, ...] = (*(n for n in BENCHMARKS if n not in _FILES.values()), *_FILES)


def files_of(name: str, data: Path | None) -> list[Path]:
    """What the task reads, in `data` or the cache. Raises `EvaluationError` with what to type."""
    file = _FILES.get(name, name)
    return [] if file is None else [find(file, data)]
