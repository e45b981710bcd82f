"""What every outside benchmark is here: its needs, checked; one run; its scores as ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from loopcoder.errors import RequestError
from loopcoder.eval.environments import Environment
from loopcoder.eval.scores import mean_of


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something the benchmark cannot run without; `remedy` is what to type where it is missing."""

    what: str
    found: bool
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Option:
    """A setting that one benchmark has beside those of every run; no `choices`: any text."""

    name: str
    default: str
    about: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HarnessRun:
    """One run: a served model (`base_url` ends in /v1), and where everything is written.

    `data` is a directory with the benchmark's own files, in its own format; None for what its
    harness fetches by itself. `limit` is how many tasks, None for all; `n` answers of each.
    `loops` is what the server runs with (`serve --loops`): most harnesses cannot ask for it.
    `options` are the benchmark's own (`Harness.options`), by name.
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
    options: Mapping[str, str] = field(default_factory=dict)


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

    @property
    def name(self) -> str:
        """What the user types."""

    @property
    def about(self) -> str:
        """One line: what it measures, how large it is."""

    @property
    def environment(self) -> Environment | None:
        """The harness's own Python; None where it runs in ours."""

    @property
    def options(self) -> tuple[Option, ...]:
        """The settings that only this benchmark has."""

    def needs(self, run: HarnessRun) -> list[Need]:
        """Everything it needs, found or not, checked without running a model."""

    def run(self, run: HarnessRun) -> HarnessResult:
        """Run the harness to its end and read its report."""


def chosen(options: tuple[Option, ...], run: HarnessRun) -> dict[str, str]:
    """Every option's value. Raises `RequestError` for one that the benchmark does not have."""
    known = {option.name: option for option in options}
    values = {name: option.default for name, option in known.items()}
    for name, value in run.options.items():
        if name not in known:
            there = ", ".join(known) or "none"
            raise RequestError(f"option {name} is not one of this benchmark; it has: {there}")
        choices = known[name].choices
        if choices and value not in choices:
            raise RequestError(f"option {name} is {value!r}; give one of {', '.join(choices)}")
        values[name] = value
    return values


def check_sampling(run: HarnessRun) -> None:
    """Raises `RequestError` where several answers would all be the same one."""
    if run.n > 1 and run.temperature <= 0:
        raise RequestError(
            f"{run.n} answers of each task at temperature {run.temperature:g} are all the same; "
            "give a temperature above 0, or one answer"
        )


def mean_error(shares: Sequence[float]) -> float | None:
    """The standard error of a mean of per-task shares; None below two tasks."""
    return mean_of("", shares).standard_error if shares else None
