"""A benchmark's own harness against a server that runs just for it."""

from loopcoder.eval.harness.base import HarnessRun
from loopcoder.eval.harness.registry import HARNESSES
from loopcoder.eval.menu import NOT_SERVED
from loopcoder.eval.records import TaskResult
from loopcoder.eval.scores import PASS, Answer, Estimate
from loopcoder.eval.served import served
from loopcoder.eval.settings import EvalSettings

_NO_KEY = "none"


def plan(name: str, settings: EvalSettings, base_url: str = NOT_SERVED) -> HarnessRun:
    """What the harness is told."""
    return HarnessRun(
        model=settings.model,
        base_url=base_url,
        api_key=settings.api_key or _NO_KEY,
        out=(settings.out / name).resolve(),
        data=None if settings.data is None else settings.data.resolve(),
        limit=settings.limit,
        n=settings.n,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens or HarnessRun.max_tokens,
        loops=settings.loops,
        workers=settings.workers,
        options=dict(settings.options),
    )


def run_served(name: str, settings: EvalSettings) -> TaskResult:
    """Start the server, run the harness, and bring its scores back."""
    with served(settings, settings.out / name / "server.log") as base_url:
        found = HARNESSES[name].run(plan(name, settings, base_url))
    estimates = tuple(
        Estimate(
            metric=score.metric if score.task == name else f"{score.task} {score.metric}",
            value=score.value,
            standard_error=score.standard_error,
            problems=score.samples or len(found.correct),
            unit=score.unit,
        )
        for score in found.scores
    )
    answers = tuple(
        Answer(problem=problem, sample=1, scores={PASS: share}, reason="by its own harness")
        for problem, share in found.correct.items()
    )
    return TaskResult(task=name, estimates=estimates, answers=answers)
