"""What a study will cost, told before it begins."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loopcoder.study.work import Job, seconds_of
from loopcoder.train.cost import training_cost
from loopcoder.train.records import SUMMARY_FILE


@dataclass(frozen=True, kw_only=True)
class Line:
    """Trials or models of one arm and loop count; `seconds` of those not done, one at a time."""

    what: str
    arm: str
    loops: int
    models: int
    done: int
    tokens: int
    flops: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """All lines, and `seconds` that are left by the jobs' names, 0 for those that are done."""

    lines: tuple[Line, ...]
    seconds: dict[str, float]

    @property
    def left_s(self) -> float:
        """What is left to train, one model at a time."""
        return sum(self.seconds.values())


def estimate(jobs: Sequence[Job]) -> Budget:
    """Tokens and FLOPs by formula, time from one micro-batch of each kind of model.

    Held-out scoring and measuring are not counted.
    """
    groups: dict[tuple[str, str, int], list[Job]] = {}
    for job in jobs:
        what = "trials" if job.records is None else "models"
        groups.setdefault((what, job.cell.arm.name, job.cell.loops), []).append(job)
    lines: list[Line] = []
    seconds: dict[str, float] = {}
    for (what, arm, loops), group in groups.items():
        left = [job for job in group if not (job.out / SUMMARY_FILE).is_file()]
        each = seconds_of(left[0]) if left else 0.0
        seconds |= {job.cell.name: each if job in left else 0.0 for job in group}
        costs = [training_cost(job.recipe, job.shape) for job in group]
        lines.append(
            Line(
                what=what,
                arm=arm,
                loops=loops,
                models=len(group),
                done=len(group) - len(left),
                tokens=sum(cost.tokens for cost in costs),
                flops=sum(cost.flops for cost in costs),
                seconds=each * len(left),
            )
        )
    return Budget(lines=tuple(lines), seconds=seconds)


def as_text(name: str, budget: Budget, processes: int) -> Iterable[str]:
    """The budget as lines of text."""
    yield f"{name}: what will be trained"
    head = ("arm", "R", "number", "done", "tokens", "FLOPs", "hours")
    yield "{:12}{:12}{:>3}{:>8}{:>6}{:>10}{:>10}{:>8}".format("", *head)
    for line in budget.lines:
        yield (
            f"{line.what:12}{line.arm:12}{line.loops:3}{line.models:8}{line.done:6}"
            f"{line.tokens / 1e6:8.2f} M{line.flops:10.1e}{line.seconds / 3600:8.2f}"
        )
    tokens, flops = (sum(getattr(line, n) for line in budget.lines) for n in ("tokens", "flops"))
    hours = budget.left_s / 3600
    yield (
        f"in all {tokens / 1e6:.2f} M tokens, {flops:.1e} FLOPs; about {hours:.2f} hours of "
        f"training left, {hours / processes:.2f} with {processes} at a time"
    )
