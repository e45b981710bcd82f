"""One run of `loopcoder eval`: check everything, run each benchmark, write its records."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from loopcoder.errors import EvaluationError
from loopcoder.eval.identity import local_identity, source
from loopcoder.eval.menu import kind_of
from loopcoder.eval.records import TaskResult, hash_of, write_result
from loopcoder.eval.scores import pass_rates, usual_ks
from loopcoder.eval.settings import EvalSettings, claim
from loopcoder.records.rows import DataIdentity

if TYPE_CHECKING:
    from inspect_ai import Task

    from loopcoder.eval.scores import Answer
    from loopcoder.records.rows import ModelIdentity


def evaluate(settings: EvalSettings) -> list[TaskResult]:
    """Run every task of `settings`; one record file each in `settings.out`, and inspect's logs.

    What a missing file, sandbox or program prevents is said before a model is loaded. A run that
    was broken off goes on where it was. Raises `EvaluationError`.
    """
    kinds = {name: kind_of(name) for name in settings.tasks}
    tasks = [name for name, kind in kinds.items() if kind == "task"]
    harnesses = [name for name, kind in kinds.items() if kind == "harness"]
    data = {name: hash_of(files) for name, files in _check_tasks(settings, tasks).items() if files}
    _check_harnesses(settings, harnesses)
    if "heldout" in kinds.values():
        data["heldout"] = _check_text(settings)
    model = None if settings.base_url else _identity(settings)
    built = _build(settings, tasks)  # reads the files, which may be damaged
    claim(settings, data)
    results: list[TaskResult] = []
    if tasks:
        from loopcoder.eval.run import run_tasks

        for name, answers in run_tasks(settings, built).items():
            results.append(_task_result(name, answers, settings))
            _write(settings, results[-1], model, data.get(name))
    if "heldout" in kinds.values():
        from loopcoder.eval.heldout_run import run_heldout

        results.append(run_heldout(settings))
        _write(settings, results[-1], model, data["heldout"])
    for name in harnesses:
        from loopcoder.eval.harness.served import run_served

        results.append(run_served(name, settings))
        _write(settings, results[-1], model, None)
    order = {name: place for place, name in enumerate(settings.tasks)}
    return sorted(results, key=lambda result: order[result.task])


def _identity(settings: EvalSettings) -> "ModelIdentity":
    return local_identity(settings.model, dtype=settings.dtype, quantization=settings.quantization)


def _write(
    settings: EvalSettings,
    result: TaskResult,
    model: "ModelIdentity | None",
    data: str | None,
) -> None:
    # Problems have no common length.
    read = None if data is None else DataIdentity(name=result.task, hash=data, length=0)
    loops = settings.loops or (model.trained_loops if model else None)
    where = source(model, read, seed=settings.seed, threads=settings.threads)
    write_result(settings.out, result, where, loops, settings.subject)


def _check_tasks(settings: EvalSettings, names: Sequence[str]) -> dict[str, list[Path]]:
    """The files of each task. Raises before anything is loaded if something is missing."""
    if not names:
        return {}
    from loopcoder.eval.sandbox.bubblewrap import bubblewrap
    from loopcoder.eval.tasks.names import files_of

    if find_spec("inspect_ai") is None:
        raise EvaluationError("tasks need inspect-ai; run `pip install 'loopcoder[eval]'`")
    if "bfcl" in names:
        from loopcoder.eval.bfcl import VERSIONS

        VERSIONS[settings.bfcl_version].require()
    files = {name: files_of(name, settings.data) for name in names}
    if not settings.unsafe_local and any(name != "bfcl" for name in names):
        bubblewrap()
    return files


def _check_text(settings: EvalSettings) -> str:
    """The hash of the held-out documents. Raises `DataError` for what cannot be read."""
    from loopcoder.eval.heldout.texts import Texts

    return Texts([settings.data] if settings.data else [], settings.limit).hash


def _check_harnesses(settings: EvalSettings, names: Sequence[str]) -> None:
    from loopcoder.eval.harness.registry import HARNESSES
    from loopcoder.eval.harness.served import plan

    missing = [
        f"{name}: {need.what}: {need.remedy}"
        for name in names
        for need in HARNESSES[name].needs(plan(name, settings))
        if not need.found
    ]
    if missing:
        raise EvaluationError("these are missing:\n  " + "\n  ".join(missing))


def _build(settings: EvalSettings, names: Sequence[str]) -> "list[Task]":
    if not names:
        return []
    from loopcoder.eval.tasks.table import TASKS

    arguments = {
        "data": None if settings.data is None else str(settings.data.resolve()),
        "prompt": settings.prompt,
        "unsafe_local": settings.unsafe_local,
    }
    built = []
    for name in names:
        if name == "bfcl":
            chosen = {"categories": settings.categories} if settings.categories else {}
            mode = "prompt" if settings.prompt == "chat" else settings.prompt
            built.append(TASKS[name](**chosen, mode=mode, version=settings.bfcl_version))
        elif name.startswith("cruxeval"):
            built.append(TASKS[name](**arguments, reasoning=settings.reasoning))
        else:
            built.append(TASKS[name](**arguments))
    return built


def _task_result(name: str, answers: "Sequence[Answer]", settings: EvalSettings) -> TaskResult:
    if not any(answer.scores for answer in answers):
        why = answers[0].reason if answers else "the task has no problems"
        print(f"warning: no answer of {name} could be scored ({why})", file=sys.stderr)
        return TaskResult(task=name, estimates=(), answers=tuple(answers))
    estimates = pass_rates(answers, usual_ks(settings.n))
    if name == "bfcl":
        from loopcoder.eval.bfcl.summary import estimates as by_category

        estimates = by_category(answers, settings.bfcl_version)
    return TaskResult(task=name, estimates=tuple(estimates), answers=tuple(answers))
