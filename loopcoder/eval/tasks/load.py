"""Problems by benchmark, read once, and what a log should say about their file."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from loopcoder.eval.problems.catalogue import benchmark
from loopcoder.eval.problems.download import digest, find
from loopcoder.eval.problems.types import CodeProblem, ExecutionProblem


def problems(name: str, data: str | None) -> dict[str, CodeProblem | ExecutionProblem]:
    """The problems of a benchmark by id, from the directory `data` or the cache.

    Raises `EvaluationError` where the file is not there, or is not as it should be.
    """
    path = find(name, Path(data) if data is not None else None).resolve()
    at = path.stat()
    return _read(name, path, at.st_mtime_ns, at.st_size)


@lru_cache(maxsize=8)
def _read(
    name: str, path: Path, changed: int, size: int
) -> dict[str, CodeProblem | ExecutionProblem]:
    return {problem.id: problem for problem in benchmark(name).read(path)}


def provenance(name: str, data: str | None) -> dict[str, Any]:
    """The file's name and hash; `published`: whether it is the published one (None: not known)."""
    path = find(name, Path(data) if data is not None else None)
    known = benchmark(name).sha256
    found = digest(path)
    return {
        "benchmark": name,
        "file": path.name,
        "sha256": found,
        "published": None if known is None else found == known,
    }
