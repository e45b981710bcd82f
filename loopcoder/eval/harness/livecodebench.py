"""LiveCodeBench through its own runner, as PyPI has it (nvidia-livecodebench)."""

from pathlib import Path

from loopcoder.eval.environments import Environment
from loopcoder.eval.harness.base import (
    HarnessResult,
    HarnessRun,
    Need,
    Option,
    Score,
    check_sampling,
    chosen,
)
from loopcoder.eval.harness.contained import contained, python_prefixes
from loopcoder.eval.harness.memory import most_memory
from loopcoder.eval.harness.needs import (
    data_need,
    disk_need,
    environment_need,
    require,
    sandbox_need,
    server_need,
)
from loopcoder.eval.harness.process import execute, served
from loopcoder.eval.harness.reports import broken, only_file, read_report
from loopcoder.eval.harness.workspace import Workspace, link, plain_environment, workspace

# Its data set comes with a loading script, which later versions of datasets refuse; its prompts
# import a name that later versions of anthropic lack. Of the vendors' clients it needs no other.
ENVIRONMENT = Environment(
    name="livecodebench",
    requirements=(
        *("anthropic==0.42.0", "datasets>=3.2,<4", "httpx<0.28", "numpy", "pebble>=5.1.0"),
        *("requests", "tenacity>=9", "tqdm"),
    ),
    alone=("nvidia-livecodebench==26.3",),
    module="livecodebench.runner.main",
)
OPTIONS = (
    Option(name="release", default="release_v6", about="how far the problems reach: release_v1.."),
    Option(name="start", default="", about="first contest date, YYYY-MM-DD"),
    Option(name="end", default="", about="last contest date, YYYY-MM-DD"),
)
DATASET = "livecodebench/code_generation_lite"
RUNNER = "livecodebench.runner.main"
TASK_SECONDS = 120.0  # beyond its own limits: 6 s a test, and a problem has many

# Its grading is part of the same program as its requests. Here it is run a second time, without a
# network, and finds the answers that it wrote the first time.
REPLAY = f"""
import json, sys
from {RUNNER.rpartition(".")[0]} import main as runner
problems = json.load(open(sys.argv.pop(1)))
given = {{problem["question_id"]: problem["output_list"] for problem in problems}}
class Given:
    def run_main(self, benchmark, format_prompt):
        return [given[problem.question_id] for problem in benchmark]
runner.build_runner = lambda args, model: Given()
runner.main()
"""


class LiveCodeBench:
    """Code generation, by chat with its own prompts; the release and the dates are options."""

    name = "livecodebench"
    about = "contest problems dated by contest, with hidden tests (code generation)"
    environment: Environment | None = ENVIRONMENT
    options: tuple[Option, ...] = OPTIONS

    def needs(self, run: HarnessRun) -> list[Need]:
        """Its package, a clone of its data set, a sandbox."""
        chosen(OPTIONS, run)
        fetch = f"hf download {DATASET} --repo-type dataset --local-dir DIR, then --data DIR"
        what = f"a --data directory with the files of {DATASET}"
        return [
            environment_need(ENVIRONMENT),
            data_need(run.data, "code_generation_lite.py", what=f"{what}: its .py", remedy=fetch),
            data_need(run.data, "test*.jsonl", what=f"{what}: test*.jsonl", remedy=fetch),
            sandbox_need(),
            disk_need(run.out, 2),
        ]

    def run(self, run: HarnessRun) -> HarnessResult:
        """Answers, then tests, then its report. Raises `EvaluationError` where either fails."""
        values = chosen(OPTIONS, run)
        check_sampling(run)
        require(self.name, [*self.needs(run), server_need(run)])
        assert run.data is not None, "needs() found it"
        space = workspace(self.name, run, values)
        link(space.inputs / DATASET, run.data)
        _generate(run, values, space)
        _evaluate(run, values, space)
        return read_result(space.work / "graded", values["release"], space.log)


def read_result(directory: Path, release: str, log: Path) -> HarnessResult:
    """What its runner wrote. Raises `EvaluationError` where it did not."""
    path = only_file(directory, "*_eval.json", log)
    problems = only_file(directory, "*_eval_all.json", log)
    totals, graded = read_report(path), read_report(problems)
    try:
        metrics = totals[0]
        correct = {
            problem["question_id"]: sum(map(bool, problem["graded_list"]))
            / len(problem["graded_list"])
            for problem in graded
        }
        scores = tuple(
            Score(
                task=f"livecodebench-{release}",
                metric=metric,
                value=float(value),
                samples=len(correct),
                standard_error=float(metrics[f"{metric}_stderr"]) if len(correct) > 1 else None,
            )
            for metric, value in metrics.items()
            if metric.startswith("pass@") and not metric.endswith("_stderr")
        )
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        ZeroDivisionError,
    ) as error:
        raise broken(path, error) from error
    return HarnessResult(scores=scores, correct=correct)


def _arguments(run: HarnessRun, values: dict[str, str], out: Path) -> list[str]:
    """What both runs are told alike."""
    words = ["--model", run.model, "--scenario", "codegeneration", "--out_dir", str(out)]
    words += ["--url", f"{run.base_url.rstrip('/')}/chat/completions"]
    words += ["--release_version", values["release"]]
    words += ["--n", str(run.n), "--codegen_n", str(run.n), "--temperature", str(run.temperature)]
    words += ["--top_p", "0.95", "--max_tokens", str(run.max_tokens), "--timeout", "600"]
    words += ["--multiprocess", str(run.workers), "--num_process_evaluate", str(run.workers)]
    words += [] if run.limit is None else ["--first_n", str(run.limit)]
    for word, value in (("--start_date", values["start"]), ("--end_date", values["end"])):
        words += [word, value] if value else []
    return words


def _generate(run: HarnessRun, values: dict[str, str], space: Workspace) -> None:
    out = space.inputs / "answers"
    if list(out.glob("*.json")):
        return  # an earlier run got as far as the tests
    execute(
        [str(ENVIRONMENT.require()), "-m", RUNNER, *_arguments(run, values, out)],
        space.log,
        what="livecodebench",
        cwd=space.inputs,
        environment=plain_environment(space.inputs, API_KEY=run.api_key),
        alive=lambda: served(run.base_url, run.api_key),
    )


def _evaluate(run: HarnessRun, values: dict[str, str], space: Workspace) -> None:
    """Its runner again, locked up, with the answers at hand."""
    answers = only_file(space.inputs / "answers", "*.json", space.log)
    assert run.data is not None, "needs() found it"
    python = ENVIRONMENT.require()
    out = space.work / "graded"
    for old in out.glob("*.json"):
        old.unlink()
    link(space.work / DATASET, run.data)
    command = [str(python), "-c", REPLAY, str(answers), *_arguments(run, values, out), "--evaluate"]
    locked = contained(
        command,
        readable=[*python_prefixes(python), run.data.absolute(), answers],
        writable=space.work,
        environment=plain_environment(Path("/tmp")),
    )
    count = len(read_report(answers)) * run.n
    execute(
        locked,
        space.log,
        what="livecodebench --evaluate",
        cwd=space.work,
        environment=plain_environment(space.inputs),
        seconds=1800 + count * TASK_SECONDS / run.workers,
        memory=most_memory(),
    )
