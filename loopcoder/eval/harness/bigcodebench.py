"""BigCodeBench through its own package: answers by chat, its tests locked up in bubblewrap."""

import ast
import gzip
import json
import os
import re
import subprocess
from itertools import islice
from pathlib import Path
from typing import Any

from loopcoder.errors import EvaluationError, file_errors
from loopcoder.eval.environments import Environment
from loopcoder.eval.harness.base import (
    HarnessResult,
    HarnessRun,
    Need,
    Option,
    Score,
    check_sampling,
    chosen,
    mean_error,
)
from loopcoder.eval.harness.contained import contained, python_prefixes
from loopcoder.eval.harness.memory import most_memory
from loopcoder.eval.harness.needs import (
    disk_need,
    environment_need,
    require,
    sandbox_need,
    server_need,
)
from loopcoder.eval.harness.process import execute, served
from loopcoder.eval.harness.reports import broken, only_file, read_report
from loopcoder.eval.harness.workspace import ADVICE, Workspace, plain_environment, workspace

# The package asks for vLLM and every vendor's client too; these are what it starts with.
ENVIRONMENT = Environment(
    name="bigcodebench",
    requirements=(
        *("appdirs", "datasets<6", "e2b<3", "fire<1", "gradio-client<3", "httpx<1", "matplotlib<4"),
        *("multipledispatch", "numpy<3", "openai<4", "pqdm<1", "rich", "tempdir", "termcolor"),
        *("tqdm", "transformers<6", "tree-sitter<0.27", "tree-sitter-python<0.26", "wget"),
    ),
    alone=("bigcodebench==0.2.5",),
    module="bigcodebench.evaluate",
)
OPTIONS = (
    Option(
        name="split",
        default="instruct",
        about="instruct: the task in words; complete: a signature and docstring to complete",
        choices=("instruct", "complete"),
    ),
    Option(
        name="subset",
        default="full",
        about="full: 1140 tasks; hard: 148 of them",
        choices=("full", "hard"),
    ),
)
TASK_SECONDS = 250.0  # its own limit for a task's tests is 240 s
_HUB = {"full": "bigcode/bigcodebench", "hard": "bigcode/bigcodebench-hard"}
_LIBRARIES = "Requirements/requirements-eval.txt of github.com/bigcode-project/bigcodebench"
_REFUSED = re.compile(rb"Error code: 4(?!29)\d\d.*")  # 429 is asked again rightly
_FIND = "import importlib.util as u, sys; print(*(m for m in sys.argv[1:] if not u.find_spec(m)))"


class BigCodeBench:
    """Its two splits and its hard subset are options; the answers are always asked for by chat."""

    name = "bigcodebench"
    about = "Python tasks that use many libraries, with unit tests: 1140, of them 148 hard"
    environment: Environment | None = ENVIRONMENT
    options: tuple[Option, ...] = OPTIONS

    def needs(self, run: HarnessRun) -> list[Need]:
        """Its package, the data, the libraries that the data's tasks use, a sandbox."""
        subset = chosen(OPTIONS, run)["subset"]
        data = data_file(run.data, subset)
        fetch = (
            f"python -c \"from datasets import load_dataset as l; l('{_HUB[subset]}', split="
            f"'v0.1.4').to_json('DIR/{_file_name(subset)}')\", then --data DIR"
        )
        there = Need(
            what=f"a --data directory with {_file_name(subset)}", found=False, remedy=fetch
        )
        if data is None:
            libraries = Need(
                what="the libraries its tasks use", found=False, remedy="the data first"
            )
        else:
            there = Need(what=str(data), found=True, remedy=fetch)
            libraries = _libraries_need(data, run.limit)
        return [
            environment_need(ENVIRONMENT),
            there,
            libraries,
            sandbox_need(),
            disk_need(run.out, 1),
        ]

    def run(self, run: HarnessRun) -> HarnessResult:
        """Answers, then tests, then its report. Raises `EvaluationError` where either fails."""
        values = chosen(OPTIONS, run)
        check_sampling(run)
        require(self.name, [*self.needs(run), server_need(run)])
        space = workspace(self.name, run, values)
        data = data_file(run.data, values["subset"])
        assert data is not None, "needs() found it"
        tasks = _cut(data, space.inputs / "tasks.jsonl", run.limit)
        samples = _generate(run, values, space, tasks)
        _evaluate(run, values, space, tasks, samples)
        return read_result(samples.parent, space.log)


def data_file(directory: Path | None, subset: str) -> Path | None:
    """The subset's tasks in that directory, one JSON object a line, gzip or not."""
    if directory is None:
        return None
    stem = _file_name(subset).removesuffix(".jsonl")
    names = [f"{stem}{version}.jsonl{end}" for version in ("", "-v0.1.4") for end in ("", ".gz")]
    return next((directory / name for name in names if (directory / name).exists()), None)


def read_result(samples: Path, log: Path) -> HarnessResult:
    """What the package wrote beside its samples. Raises `EvaluationError` where it did not."""
    path = only_file(samples, "*_eval_results.json", log)
    summary = only_file(samples, "*_pass_at_k.json", log)
    results, totals = read_report(path), read_report(summary)
    try:
        correct = {
            task: sum(answer["status"] == "pass" for answer in answers) / len(answers)
            for task, answers in results["eval"].items()
        }
        if not totals["gt_pass_rate"]:
            raise EvaluationError(f"no reference solution passed its own tests; see why in {log}")
        name = f"bigcodebench-{totals['subset']}-{totals['split']}"
        ground = Score(
            task=name,
            metric="reference solutions passed",
            value=float(totals["gt_pass_rate"]),
            samples=len(correct),
        )
        passed = [
            Score(
                task=name,
                metric=metric,
                value=float(value),
                samples=len(correct),
                standard_error=mean_error(list(correct.values())) if metric == "pass@1" else None,
            )
            for metric, value in totals.items()
            if metric.startswith("pass@")
        ]
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        raise broken(path, error) from error
    return HarnessResult(scores=(*passed, ground), correct=correct)


def _file_name(subset: str) -> str:
    return "BigCodeBench.jsonl" if subset == "full" else "BigCodeBench-Hard.jsonl"


def _tasks(data: Path, limit: int | None) -> list[dict[str, Any]]:
    with file_errors(EvaluationError, "give the benchmark's own file"):
        raw = data.read_bytes()
    try:
        text = (gzip.decompress(raw) if data.suffix == ".gz" else raw).decode("utf-8")
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise EvaluationError(f"{data}: not JSON lines ({error}); fetch it again") from error
    missing = next((row for row in rows if not isinstance(row, dict) or "task_id" not in row), None)
    if missing is not None or not rows:
        raise EvaluationError(f"{data}: has a line without a task_id, or none; fetch it again")
    return list(islice(rows, limit))


def _cut(data: Path, place: Path, limit: int | None) -> Path:
    """The tasks of this run: the package wants answers to every task of its file."""
    lines = (json.dumps(task) for task in _tasks(data, limit))
    with file_errors(EvaluationError, ADVICE):
        place.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return place


def _libraries_need(data: Path, limit: int | None) -> Need:
    """The tasks name what they import; a task whose library is missing fails for any model."""
    try:
        tasks = _tasks(data, limit)
    except EvaluationError as error:
        return Need(what=str(error), found=False, remedy="the benchmark's own file")
    named = sorted({library for task in tasks for library in _libraries(task)})
    python = ENVIRONMENT.interpreter()
    missing = _missing(python, named) if python else ["(no environment to look in)"]
    return Need(
        what=f"the {len(named)} libraries its tasks use (missing: {', '.join(missing) or 'none'})",
        found=not missing,
        remedy=f"a Python 3.10 with {_LIBRARIES}, bigcodebench==0.2.5 and what it starts with, "
        f"named in {ENVIRONMENT.variable}",
    )


def _libraries(task: dict[str, Any]) -> list[str]:
    """The field `libs` is a list, or the source text of one."""
    libraries = task.get("libs", [])
    try:
        found = ast.literal_eval(libraries) if isinstance(libraries, str) else libraries
    except (ValueError, SyntaxError):
        return []
    return [str(name).split(".")[0] for name in found]


def _missing(python: Path, modules: list[str]) -> list[str]:
    asked = [str(python), "-I", "-c", _FIND, *modules]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()


def _generate(run: HarnessRun, values: dict[str, str], space: Workspace, tasks: Path) -> Path:
    """The package's file of answers; it goes on where an earlier run was cut off."""
    samples = space.work / "samples"
    begun = space.log.stat().st_size if space.log.exists() else 0
    command = [str(ENVIRONMENT.require()), "-m", "bigcodebench.generate"]
    command += ["--model", run.model, "--backend", "openai", "--base_url", run.base_url]
    command += ["--split", values["split"], "--subset", values["subset"], "--bs", "1"]
    command += ["--temperature", str(run.temperature), "--n_samples", str(run.n)]
    command += ["--max_new_tokens", str(run.max_tokens), "--root", str(samples)]
    execute(
        command,
        space.log,
        what="bigcodebench.generate",
        cwd=space.inputs,
        environment=plain_environment(
            space.inputs, OPENAI_API_KEY=run.api_key, BIGCODEBENCH_OVERRIDE_PATH=str(tasks)
        ),
        alive=lambda: _answering(run, space.log, begun),
    )
    return only_file(samples, "*-sanitized_calibrated.jsonl", space.log)


def _answering(run: HarnessRun, log: Path, begun: int) -> bool:
    """Whether the server is there. Raises `EvaluationError` where it has refused a request.

    The package would ask the same for ever. `begun` is where this run's part of the log begins.
    """
    with log.open("rb") as file:
        file.seek(begun)
        refused = _REFUSED.search(file.read())
    if refused is not None:
        said = refused.group().decode("utf-8", "replace")[:300]
        raise EvaluationError(
            f"the server refuses a task of BigCodeBench ({said}); its log is {log}"
        )
    return served(run.base_url, run.api_key)


def _evaluate(
    run: HarnessRun, values: dict[str, str], space: Workspace, tasks: Path, samples: Path
) -> None:
    """The package's own tests, in this process tree: so all of it is locked up."""
    for old in samples.parent.glob("*.json"):
        old.unlink()
    python = ENVIRONMENT.require()
    megabytes = str(_memory_megabytes(run.workers))
    command = [str(python), "-m", "bigcodebench.evaluate", "--execution", "local"]
    command += ["--split", values["split"], "--subset", values["subset"]]
    command += ["--samples", str(samples), "--pass_k", "1,5,10", "--parallel", str(run.workers)]
    command += ["--max_as_limit", megabytes, "--max_data_limit", megabytes]
    locked = contained(
        command,
        readable=[*python_prefixes(python), tasks],
        writable=space.work,
        environment={"BIGCODEBENCH_OVERRIDE_PATH": str(tasks), "HF_HUB_OFFLINE": "1"},
    )
    answers = len(_tasks(tasks, None)) * (run.n + 1)
    execute(
        locked,
        space.log,
        what="bigcodebench.evaluate",
        cwd=space.work,
        environment=plain_environment(space.inputs),
        seconds=600 + answers * TASK_SECONDS / run.workers,
        memory=most_memory(),
    )


def _memory_megabytes(workers: int) -> int:
    """Its own 30 GiB of address space for each process, or what this machine has for each."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return int(min(30 * 1024, memory // max(1, workers)))
