"""What every outside benchmark is here: its needs, checked; one run; its scores as ours."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from loopcoder.eval.environments import Environment


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something the benchmark cannot run without; `remedy` is what to type where it is missing."""

    what: str
    found: bool
    remedy: str


@dataclass(frozen=True, kw_only=True)
class HarnessRun:
    """One run: a served model (`base_url` ends in /v1), and where everything is written.

    `data` is a directory with the benchmark's own files, in its own format; None for what its
    harness fetches by itself. `limit` is how many tasks, None for all; `n` answers of each.
    """

    model: str
    base_url: str
    api_key: str
    out: Path
    data: Path | None = None
    limit: int | None = None
    n: int = 1
    temperature: float = 0.0
    max_tokens: int = 2048
    loops: int | None = None
    workers: int = 2


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number that the harness reported: a share from 0 to 1 unless `unit` says otherwise."""

    task: str
    metric: str
    value: float
    unit: str = "share"
    samples: int | None = None
    standard_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class HarnessResult:
    """Its scores, and by problem id the share of its answers that were right, where kept."""

    scores: tuple[Score, ...]
    correct: dict[str, float] = field(default_factory=dict)


class Harness(Protocol):
    """A benchmark with its own harness. `run` raises `EvaluationError` where the harness fails."""

    name: str  # what the user types
    about: str  # one line: what it measures, how large it is
    environment: Environment | None

    def needs(self, run: HarnessRun) -> list[Need]:
        """Everything it needs, found or not, checked without running a model."""

    def run(self, run: HarnessRun) -> HarnessResult:
        """Run the harness to its end and read its report."""
