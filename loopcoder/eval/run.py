"""Runs tasks through inspect-ai, resumes what was broken off, and turns its logs into answers."""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspect_ai import Task, eval_set
from inspect_ai.log import EvalLog, EvalSample, read_eval_log

from loopcoder.errors import EvaluationError
from loopcoder.eval.scores import PASS, Answer
from loopcoder.eval.settings import EvalSettings

LOGS = "logs"
TWO_SCORES = frozenset({"humaneval_plus", "mbpp_plus"})  # without and with EvalPlus's tests


def run_tasks(settings: EvalSettings, tasks: Sequence[Task]) -> dict[str, list[Answer]]:
    """Run each task to its end; the answers by task name, unscored ones among them.

    Samples that `settings.out` already has are not run again. A sample that fails (an endpoint that
    dies, a sandbox that breaks) leaves the others alone and is run again the next time. Raises
    `KeyboardInterrupt` after an interrupted run, whose answers are kept.
    """
    with contextlib.redirect_stdout(sys.stderr):
        _, logs = eval_set(
            list(tasks),
            log_dir=str(settings.out / LOGS),
            epochs=settings.n,
            limit=settings.limit,
            fail_on_error=True,
            continue_on_fail=True,
            retry_attempts=0,
            retry_immediate=False,
            max_samples=2 * settings.max_num_seqs,
            display="rich" if sys.stderr.isatty() else "plain",
            log_level="warning",
            score_display=False,
            ctl_server=False,
            **_model(settings),
            **_generation(settings),
        )
    if len(logs) < len(tasks) or any(log.status == "cancelled" for log in logs):
        raise KeyboardInterrupt  # which inspect-ai has caught, and written what was done
    found = [read_eval_log(log.location) for log in logs]
    return {task_name(log): answers_of(log) for log in found}


def _model(settings: EvalSettings) -> dict[str, Any]:
    if settings.base_url is not None:
        return {
            "model": f"loopcoder-api/{settings.model}",
            "model_base_url": settings.base_url,
            "model_args": {"api_key": settings.api_key} if settings.api_key else {},
        }
    names = ("loops", "dtype", "quantization", "device", "max_num_seqs")
    arguments = {name: getattr(settings, name) for name in names}
    arguments["num_threads"] = settings.threads or len(os.sched_getaffinity(0))
    # A path is made absolute so that a log names the same checkpoint from everywhere.
    path = Path(settings.model)
    model = str(path.resolve()) if path.is_dir() else settings.model
    return {"model": f"loopcoder/{model}", "model_args": arguments}


def _generation(settings: EvalSettings) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed,
        "max_tokens": settings.max_tokens,
        "max_connections": settings.max_num_seqs,
    }
    if settings.base_url is not None:
        chosen |= {
            "timeout": settings.timeout * (settings.retries + 1),
            "attempt_timeout": settings.timeout,
            "max_retries": settings.retries,
        }
        if settings.loops is not None:
            chosen["extra_body"] = {"loops": settings.loops}
    return {name: value for name, value in chosen.items() if value is not None}


def task_name(log: EvalLog) -> str:
    """The task without its package."""
    return log.eval.task.rpartition("/")[2]


def answers_of(log: EvalLog) -> list[Answer]:
    """Every sample that the log's run should have, in order; what is missing is unscored.

    Raises `EvaluationError` where the run itself failed before its first sample.
    """
    dataset, epochs = log.eval.dataset, log.eval.config.epochs or 1
    expected = dataset.sample_ids or []
    if not log.samples and log.error is not None:
        raise EvaluationError(f"{task_name(log)} did not start: {last_line(log.error.message)}")
    limit = log.eval.config.limit
    if isinstance(limit, int):
        expected = expected[:limit]
    found = {(str(s.id), s.epoch): s for s in log.samples or []}
    wanted = [(str(problem), epoch) for problem in expected for epoch in range(1, epochs + 1)]
    two = task_name(log) in TWO_SCORES
    return [_answer(*place, found.get(place), two=two) for place in wanted]


def _answer(problem: str, sample: int, found: EvalSample | None, *, two: bool) -> Answer:
    if found is None:
        return _unscored(problem, sample, "not run")
    if found.error is not None:
        return _unscored(problem, sample, last_line(found.error.message))
    if not found.scores:
        return _unscored(problem, sample, "no score")
    score = next(iter(found.scores.values()))
    details = score.metadata or {}
    scores = {PASS: score.as_float()}
    if two:
        scores["base"] = float(details["base"])
    return Answer(
        problem=problem,
        sample=sample,
        scores=scores,
        reason=str(details.get("reason", "")),
        detail=str(details.get("detail", "")),
        cluster=str(found.metadata.get("function") or problem),
    )


def _unscored(problem: str, sample: int, why: str) -> Answer:
    return Answer(problem=problem, sample=sample, scores={}, reason=f"unscored: {why}")


def last_line(text: str) -> str:
    """An error's last line, which names it, within reason."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "an error without a message"
