"""SWE-bench Verified and Multilingual: mini-swe-agent writes the patches, swebench judges them.

Both are real packages in one environment of their own. The agent's shell commands and the tests run
in the benchmark's Docker images, never on this machine.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from loopcoder.errors import RequestError
from loopcoder.eval.environments import Environment
from loopcoder.eval.harness.agents import agent_environment, result
from loopcoder.eval.harness.base import HarnessResult, HarnessRun, Need, Option, chosen
from loopcoder.eval.harness.needs import docker_needs, environment_need, require
from loopcoder.eval.harness.process import execute, served
from loopcoder.eval.harness.reports import broken, read_report
from loopcoder.eval.harness.workspace import Workspace, workspace

ENVIRONMENT = Environment(
    name="swe-bench",
    # litellm's completion imports mcp, which it names only as an extra.
    requirements=("swebench==5.0.2", "mini-swe-agent==2.4.6", "litellm[mcp]==1.106.2"),
    module="swebench.harness.run_evaluation, minisweagent.run.benchmarks.swebench",
)
OPTIONS = (
    Option(
        name="actions",
        default="tools",
        about="how the agent's commands are asked for: tools (tool calls) or text (a code block)",
        choices=("tools", "text"),
    ),
)
SETTINGS = {"tools": "swebench.yaml", "text": "swebench_backticks.yaml"}  # mini-swe-agent's own
GIGABYTES = 120  # what swebench's own guide asks for

# How an agent's work ends by its own doing: these count, whatever it submitted. All other ends (a
# dead endpoint, an image that cannot be pulled) leave the task unscored.
ANSWERED = frozenset(
    {
        "Submitted",
        "LimitsExceeded",
        "TimeExceeded",
        "RepeatedFormatError",
        "ContextWindowExceededError",
    }
)
RUN_ID = "loopcoder"

# swebench's own loader and test specification, on the user's file, before a model runs.
_CHECK = """
import json, sys
from swebench.harness.utils import load_swebench_dataset, make_test_spec
ids = []
for number, row in enumerate(load_swebench_dataset(sys.argv[1]), 1):
    try:
        ids.append(make_test_spec(row).instance_id)
    except KeyError as field:
        sys.exit(f"{sys.argv[1]}, task {number}: it has no {field}, which swebench 5 needs")
print(json.dumps(ids), file=open(sys.argv[2], "w"))
"""


@dataclass(frozen=True, kw_only=True)
class SweBench:
    """One of the SWE-bench sets, `dataset` on the Hugging Face hub.

    `where` is mini-swe-agent's environment class and `settings` are KEY=VALUE of its settings;
    swebench judges in Docker whatever they are.
    """

    name: str
    about: str
    dataset: str
    where: str = "docker"
    settings: tuple[str, ...] = ()
    environment: Environment = ENVIRONMENT
    options: tuple[Option, ...] = OPTIONS

    def needs(self, run: HarnessRun) -> list[Need]:
        """Its environment, its data, and Docker with room for its images."""
        data = Need(
            what=f"the tasks of {self.dataset} (test*.jsonl or .parquet)",
            found=_file(run) is not None,
            remedy=f"hf download {self.dataset} --repo-type dataset --local-dir DIRECTORY, then "
            "--data DIRECTORY",
        )
        docker = docker_needs(gigabytes=GIGABYTES, purpose="its images")
        return [environment_need(self.environment), data, *docker]

    def run(self, run: HarnessRun) -> HarnessResult:
        """Write patches, apply them and run the tests; what is done is not done again.

        Raises `RequestError` for more than one answer, `EvaluationError` where something is
        missing, a program fails or nothing could be scored.
        """
        require(self.name, self.needs(run))
        place = self.prepare(run)
        tasks = self.tasks(run, place)[: run.limit]
        predictions = self.predict(run, place)
        self.judge(run, place)
        return self.read(run, place, tasks, failed_tasks(predictions))

    def prepare(self, run: HarnessRun) -> Workspace:
        """The run's directories. Raises `RequestError` for more than one answer of each task."""
        if run.n != 1:
            raise RequestError(f"{self.name} takes one answer of each task; n is {run.n}, give 1")
        return workspace(self.name, run, chosen(self.options, run))

    def tasks(self, run: HarnessRun, place: Workspace) -> list[str]:
        """Their ids, in the file's order, read and checked by swebench itself."""
        listed = place.inputs / "tasks.json"
        command = ["-c", _CHECK, str(_data(run)), str(listed)]
        self._execute("swebench's reader", command, run, place)
        return [str(each) for each in read_report(listed)]

    def predict(self, run: HarnessRun, place: Workspace) -> Path:
        """mini-swe-agent's predictions file. What failed in an earlier run is done again."""
        agent = place.work / "agent"
        forget(agent / "preds.json", failed_tasks(agent / "preds.json"))
        command = ["-m", "minisweagent.run.benchmarks.swebench", "--output", str(agent)]
        command += ["--subset", str(_data(run).parent), "--split", "test"]
        if run.limit is not None:
            command += ["--slice", f"0:{run.limit}"]
        command += ["--environment-class", self.where, "--workers", str(run.workers)]
        command += ["--model", f"openai/{run.model}"]
        command += [word for each in self._settings(run) for word in ("--config", each)]
        self._execute("mini-swe-agent", command, run, place, asks=True)
        return agent / "preds.json"

    def judge(self, run: HarnessRun, place: Workspace) -> None:
        """swebench's verdict on the predictions, in Docker."""
        command = ["-m", "swebench.harness.run_evaluation", "--split", "test"]
        command += ["--dataset_name", str(_data(run)), "--run_id", RUN_ID]
        command += ["--predictions_path", str(place.work / "agent" / "preds.json")]
        command += ["--max_workers", str(run.workers), "--report_dir", "."]
        self._execute("swebench's evaluation", command, run, place)

    def read(
        self, run: HarnessRun, place: Workspace, tasks: Sequence[str], failed: Sequence[str]
    ) -> HarnessResult:
        """swebench's report as our scores: resolved tasks of those that could be scored.

        swebench counts every task without a working patch as wrong. Left out here are those that
        the agent could not work on (`failed`), and those whose container broke.
        """
        model = f"openai/{run.model}".replace("/", "__")
        report = place.work / f"{model}.{RUN_ID}.json"
        told = read_report(report)
        try:
            missing = {*failed, *told["infra_failure_ids"]}
            scored = [each for each in told["submitted_ids"] if each not in missing]
            attempts = {each: [float(each in told["resolved_ids"])] for each in scored}
        except (KeyError, TypeError) as error:
            raise broken(report, error) from error
        return result(self.name, "resolved", attempts, tasks, place.log)

    def _settings(self, run: HarnessRun) -> list[str]:
        asked: dict[str, Any] = {"temperature": run.temperature, "max_tokens": run.max_tokens}
        if run.loops is not None:
            asked["extra_body"] = {"loops": run.loops}
        pairs = [f"model.model_kwargs.{key}={json.dumps(value)}" for key, value in asked.items()]
        own = SETTINGS[chosen(self.options, run)["actions"]]
        return [own, *pairs, "model.cost_tracking=ignore_errors", *self.settings]

    def _execute(
        self,
        what: str,
        arguments: Sequence[str],
        run: HarnessRun,
        place: Workspace,
        *,
        asks: bool = False,
    ) -> None:
        environment = agent_environment(
            place.inputs,
            run,
            MSWEA_GLOBAL_CONFIG_DIR=str(place.inputs / "mini-swe-agent"),
            MSWEA_CONFIGURED="true",
            MSWEA_SILENT_STARTUP="1",
            MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT="4",  # waits of 4, 8 and 16 seconds between them
        )
        execute(
            [str(self.environment.require()), *arguments],
            place.log,
            what=what,
            cwd=place.work,
            environment=environment,
            alive=partial(served, run.base_url, run.api_key) if asks else None,
        )


VERIFIED = SweBench(
    name="swe-bench-verified",
    about="500 issues of Python projects, checked by people; resolved by a patch",
    dataset="SWE-bench/SWE-bench_Verified",
)
MULTILINGUAL = SweBench(
    name="swe-bench-multilingual",
    about="300 issues of projects in nine languages; resolved by a patch",
    dataset="SWE-bench/SWE-bench_Multilingual",
)


def failed_tasks(predictions: Path) -> list[str]:
    """Tasks that the agent could not work on for reasons that are not its own; see `ANSWERED`."""
    if not predictions.exists():
        return []
    return [task for task in read_report(predictions) if _end(predictions, task) not in ANSWERED]


def forget(predictions: Path, tasks: Sequence[str]) -> None:
    """Take tasks out of a predictions file, so that mini-swe-agent does them again."""
    if tasks:
        kept = {task: said for task, said in read_report(predictions).items() if task not in tasks}
        predictions.write_text(json.dumps(kept, indent=2), encoding="utf-8")


def _end(predictions: Path, task: str) -> str:
    """How a task ended, by its trajectory; none is written where its container did not start."""
    trajectory = predictions.parent / task / f"{task}.traj.json"
    if not trajectory.exists():
        return "no trajectory"
    return str(read_report(trajectory).get("info", {}).get("exit_status"))


def _data(run: HarnessRun) -> Path:
    file = _file(run)
    assert file is not None, "`needs` has been checked"
    return file


def _file(run: HarnessRun) -> Path | None:
    """The tasks' file, as the hub has it or as swebench writes it."""
    if run.data is None:
        return None
    for pattern in ("test*.jsonl", "test*.json", "test*.parquet", "data/test*.parquet"):
        found = sorted(run.data.absolute().glob(pattern))
        if found:
            return found[0]
    return None
