"""Terminal-Bench 1 (tb) and 2 (harbor): the benchmark's own agent, terminus-2, in its containers.

Each task is a Docker container with a terminal; the agent types, then the task's tests decide. Both
harnesses need Python 3.12. The agent itself runs here and asks the served model; only what it types
runs in the container, which has a network, as the benchmark wants it.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from loopcoder.eval.environments import Environment
from loopcoder.eval.harness.agents import agent_environment, context_length, result
from loopcoder.eval.harness.base import (
    HarnessResult,
    HarnessRun,
    Need,
    Option,
    check_sampling,
    chosen,
)
from loopcoder.eval.harness.needs import (
    data_need,
    docker_needs,
    environment_need,
    require,
)
from loopcoder.eval.harness.process import execute, served
from loopcoder.eval.harness.reports import broken, read_report
from loopcoder.eval.harness.workspace import Workspace, workspace

TB = Environment(
    name="terminal-bench",
    requirements=("terminal-bench==0.2.18",),
    module="terminal_bench.cli.tb.main",
    python="3.12",
)
HARBOR = Environment(
    name="harbor",
    # litellm's completion imports mcp, which it names only as an extra.
    requirements=("harbor==0.24.0", "litellm[mcp]==1.106.2"),
    module="harbor.cli.main",
    python="3.12",
)
HARBOR_OPTIONS = (
    Option(
        name="environment",
        default="docker",
        about="harbor's environment: docker, or another that it knows (modal, daytona, ...)",
    ),
)

# Ends that are not the model's doing, in tb's words: the task stays unscored.
TB_FAILED = frozenset({"unknown_agent_error", "agent_installation_failed", "unknown"})
# Ends that are the model's doing although harbor then runs no tests: the task is not solved.
HARBOR_ANSWERED = frozenset(
    {"AgentTimeoutError", "ContextLengthExceededError", "OutputLengthExceededError"}
)
TB_DATA = "terminal-bench-core==0.1.1"
HARBOR_DATA = "terminal-bench@2.0"
GIGABYTES_EACH = 10  # storage_mb of the tasks of terminal-bench 2; their images come on top
JOB = "loopcoder"


@dataclass(frozen=True, kw_only=True)
class TerminalBench1:
    """terminal-bench-core 0.1.1: 80 tasks, run by `tb`."""

    name: str = "terminal-bench-1"
    about: str = "80 tasks in a terminal (terminal-bench-core 0.1.1), solved or not by their tests"
    environment: Environment = TB
    options: tuple[Option, ...] = ()

    def needs(self, run: HarnessRun) -> list[Need]:
        """Its environment, its tasks, and Docker with room for their images."""
        fetch = (
            f"{_program(self.environment, 'tb')} datasets download -d {TB_DATA} "
            "--output-dir DIRECTORY, then --data DIRECTORY"
        )
        docker = docker_needs(gigabytes=GIGABYTES_EACH * run.workers, purpose="its containers")
        return [
            environment_need(self.environment),
            data_need(run.data, "*/task.yaml", what=f"the tasks of {TB_DATA}", remedy=fetch),
            *docker,
        ]

    def run(self, run: HarnessRun) -> HarnessResult:
        """`tb run`; what an earlier run finished is not done again.

        `max_tokens` and `loops` are the server's: this agent asks for neither. Raises
        `EvaluationError` where something is missing, `tb` fails or nothing could be scored.
        """
        check_sampling(run)
        require(self.name, self.needs(run))
        place = workspace(self.name, run, chosen(self.options, run))
        for task in _tb_failed(place.work / JOB):
            shutil.rmtree(place.work / JOB / task)
        tasks = _tasks(run, "task.yaml")
        command = ["run", "--agent", "terminus-2", "--model", f"openai/{run.model}"]
        command += ["--dataset-path", str(run.data)]
        # `tb` takes a number of tasks too, but then takes other ones in every run.
        command += [word for task in tasks for word in ("--task-id", task)]
        command += ["--agent-kwarg", f"temperature={run.temperature}"]
        command += ["--output-path", str(place.work), "--run-id", JOB, "--no-upload-results"]
        command += ["--n-concurrent", str(run.workers), "--n-attempts", str(run.n)]
        _execute("tb", self.environment, command, run, place)
        return read_tb(self.name, place.work / JOB / "results.json", tasks, place.log)


@dataclass(frozen=True, kw_only=True)
class TerminalBench2:
    """terminal-bench 2.0: 89 tasks, run by `harbor`. `agent` are KEY=VALUE of its agent."""

    name: str = "terminal-bench-2"
    about: str = "89 tasks in a terminal (terminal-bench 2.0), solved or not by their tests"
    environment: Environment = HARBOR
    options: tuple[Option, ...] = HARBOR_OPTIONS
    agent: tuple[str, ...] = ()

    def needs(self, run: HarnessRun) -> list[Need]:
        """Its environment, its tasks, and (where that is what it uses) Docker with room."""
        fetch = (
            f"{_program(self.environment, 'harbor')} datasets download {HARBOR_DATA} "
            "--output-dir DIRECTORY, then --data DIRECTORY/terminal-bench"
        )
        docker = docker_needs(gigabytes=GIGABYTES_EACH * run.workers, purpose="its containers")
        in_docker = chosen(self.options, run)["environment"] == "docker"
        return [
            environment_need(self.environment),
            data_need(run.data, "*/task.toml", what=f"the tasks of {HARBOR_DATA}", remedy=fetch),
            *(docker if in_docker else ()),
        ]

    def run(self, run: HarnessRun) -> HarnessResult:
        """`harbor run`; what an earlier run finished is not done again.

        Raises `EvaluationError` where something is missing, `harbor` fails or nothing could be
        scored.
        """
        check_sampling(run)
        require(self.name, self.needs(run))
        values = chosen(self.options, run)
        place = workspace(self.name, run, values)
        job = place.work / JOB
        for trial in _harbor_failed(job):
            shutil.rmtree(trial)
        command = self._command(run, place, values["environment"])
        if (job / "config.json").exists():
            command = ["job", "resume", "--job-path", str(job)]
        _execute("harbor", self.environment, command, run, place)
        return read_harbor(self.name, job, _tasks(run, "task.toml"), place.log)

    def _command(self, run: HarnessRun, place: Workspace, where: str) -> list[str]:
        command = ["run", "--agent", "terminus-2", "--model", f"openai/{run.model}"]
        command += ["--path", str(run.data), "--env", where]
        if run.limit is not None:
            command += ["--n-tasks", str(run.limit)]
        for option in (*_harbor_options(run), *self.agent):
            command += ["--agent-kwarg", option]
        command += ["--jobs-dir", str(place.work), "--job-name", JOB, "--yes", "--quiet"]
        return [*command, "--n-concurrent", str(run.workers), "--n-attempts", str(run.n)]


def read_tb(name: str, results: Path, tasks: list[str], log: Path) -> HarnessResult:
    """`tb`'s results as our scores: solved attempts of those that could be scored."""
    attempts: dict[str, list[float]] = defaultdict(list)
    try:
        for trial in read_report(results)["results"]:
            if not _tb_trial_failed(trial):
                attempts[trial["task_id"]].append(float(bool(trial["is_resolved"])))
    except (KeyError, TypeError) as error:
        raise broken(results, error) from error
    return result(name, "solved", attempts, tasks, log)


def read_harbor(name: str, job: Path, tasks: list[str], log: Path) -> HarnessResult:
    """harbor's trials as our scores: the mean reward of those that could be scored."""
    attempts: dict[str, list[float]] = defaultdict(list)
    for file, trial in _harbor_trials(job):
        try:
            reward, task = _harbor_reward(trial), trial["task_id"]["path"]
        except (KeyError, TypeError) as error:
            raise broken(file, error) from error
        if reward is not None:
            attempts[Path(task).name].append(reward)
    return result(name, "solved", attempts, tasks, log)


def _execute(
    name: str, environment: Environment, arguments: list[str], run: HarnessRun, place: Workspace
) -> None:
    environment.require()
    execute(
        [_program(environment, name), *arguments],
        place.log,
        what=name,
        cwd=place.work,
        environment=agent_environment(place.inputs, run),
        alive=partial(served, run.base_url, run.api_key),
    )


def _tasks(run: HarnessRun, marker: str) -> list[str]:
    """Names of the tasks to run, in the order of the alphabet."""
    found = sorted(run.data.glob(f"*/{marker}")) if run.data is not None else []
    return [path.parent.name for path in found[: run.limit]]


def _tb_failed(directory: Path) -> list[str]:
    """Tasks of an earlier run that `tb` takes for done although they were not scored."""
    files = directory.glob("*/*/results.json")
    return sorted({f.parents[1].name for f in files if _tb_trial_failed(read_report(f))})


def _tb_trial_failed(trial: dict[str, Any]) -> bool:
    return trial["failure_mode"] in TB_FAILED and not trial["is_resolved"]


def _harbor_failed(job: Path) -> list[Path]:
    """Directories of trials without a reward: harbor does again what it has no result of."""
    return [file.parent for file, trial in _harbor_trials(job) if _harbor_reward(trial) is None]


def _harbor_trials(job: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(job.glob("*/result.json")):
        yield file, read_report(file)


def _harbor_reward(trial: dict[str, Any]) -> float | None:
    """1 solved, 0 not; None where the trial failed for a reason that is not the model's."""
    rewards = (trial["verifier_result"] or {}).get("rewards")
    if rewards:
        return float(rewards["reward"])
    failure = (trial["exception_info"] or {}).get("exception_type")
    return 0.0 if failure in HARBOR_ANSWERED else None


def _harbor_options(run: HarnessRun) -> list[str]:
    call: dict[str, Any] = {"max_tokens": run.max_tokens}
    if run.loops is not None:
        call["extra_body"] = {"loops": run.loops}
    options = [f"temperature={run.temperature}", f"llm_call_kwargs={json.dumps(call)}"]
    length = context_length(run)
    if length is not None:  # else its agent takes the context for a million tokens
        model = {"max_input_tokens": length, "max_output_tokens": run.max_tokens}
        options.append(f"model_info={json.dumps(model)}")
    return options


def _program(environment: Environment, name: str) -> str:
    """The program's path; its bare name where the environment has not been made."""
    python = environment.interpreter()
    return name if python is None else str(python.parent / name)
