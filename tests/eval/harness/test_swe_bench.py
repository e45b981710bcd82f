"""SWE-bench: what it needs, the agent's real program and swebench's real judging without Docker."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopcoder.errors import EvaluationError, RequestError
from loopcoder.eval.harness.base import HarnessRun
from loopcoder.eval.harness.needs import docker_needs
from loopcoder.eval.harness.swe_bench import ENVIRONMENT, VERIFIED, SweBench, failed_tasks, forget
from loopcoder.eval.harness.workspace import Workspace
from tests.eval.harness.tiny import needs_environment, run_of, write_lines

TASK = "tiny__adder-1"
needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
# Everything of its own but the programs, read-only; the repository is bound by mini-swe-agent.
SEALED = ["--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--tmpfs", "/tmp"]
SEALED += ["--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--proc", "/proc"]
SEALED += ["--symlink", "usr/lib64", "/lib64", "--dev", "/dev", "--clearenv"]
SEALED += ["--setenv", "PATH", "/usr/bin", "--setenv", "HOME", "/tmp"]
TESTS = """from adder import add

def test_add():
    assert add(1, 2) == 3

def test_zero():
    assert add(1, 0) == 1
"""
# What swebench's own evaluation does with the output of a container's tests, and no more.
GRADE = """
import json, shutil, sys
from pathlib import Path
from swebench.harness.reporting import make_run_report
from swebench.harness.run_evaluation import run_instance
from swebench.harness.utils import get_predictions_from_file, load_swebench_dataset, make_test_spec
data, predictions, output = sys.argv[1:]
rows = load_swebench_dataset(data)
said = {p["instance_id"]: p for p in get_predictions_from_file(predictions, data, "test")}
for row in rows:
    answer = said[row["instance_id"]]
    model = answer["model_name_or_path"].replace("/", "__")
    place = Path("logs/run_evaluation/loopcoder", model, row["instance_id"])
    place.mkdir(parents=True)
    shutil.copy(output, place / "test_output.txt")
    run_instance(make_test_spec(row), answer, None, "loopcoder", rewrite_reports=True)
make_run_report(said, rows, "loopcoder", None, ".")
"""


def _row(**fields: Any) -> dict[str, Any]:
    """A task in the format of swebench 5."""
    script = ["#!/bin/bash", "set -uxo pipefail", ": '>>>>> Start Test Output'"]
    script += [f"{sys.executable} -m pytest -rA -p no:cacheprovider test_adder.py"]
    script += [": '>>>>> End Test Output'", ""]
    return {
        "instance_id": TASK,
        "repo": "tiny/adder",
        "version": "1",
        "image": "none/none:latest",
        "problem_statement": "add(1, 2) is -1; it should be 3.",
        "patch": "",
        "test_patch": "",
        "FAIL_TO_PASS": json.dumps(["test_adder.py::test_add"]),
        "PASS_TO_PASS": json.dumps(["test_adder.py::test_zero"]),
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
        "eval_script": "\n".join(script),
        **fields,
    }


def _git(directory: Path, *arguments: str, text: str = "") -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    subprocess.run(command, cwd=directory, input=text.encode(), check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    place = tmp_path / "testbed"
    place.mkdir()
    (place / "adder.py").write_text("def add(a, b):\n    return a - b\n")
    _git(place, "init")
    _git(place, "add", ".")
    _git(place, "commit", "-m", "first")
    return place


def _run(tmp_path: Path, **fields: Any) -> HarnessRun:
    write_lines(tmp_path / "data" / "test.jsonl", [_row()])
    return run_of(tmp_path / "out", tmp_path / "data", options={"actions": "text"}, **fields)


def _bench(repository: Path, *settings: str) -> SweBench:
    sealed = f"environment.wrapper_args={json.dumps(SEALED)}"
    where = (f"environment.cwd={repository}", sealed, "environment.env={}", *settings)
    return replace(VERIFIED, name="tiny", where="bubblewrap", settings=where)


def test_it_names_each_missing_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT.variable, str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    python, data, docker, daemon, _ = VERIFIED.needs(run_of(tmp_path, tmp_path))
    assert not any(need.found for need in (python, data, docker, daemon))
    assert "loopcoder eval setup swe-bench" in python.remedy
    assert "hf download SWE-bench/SWE-bench_Verified" in data.remedy
    assert docker.what == "docker"
    write_lines(tmp_path / "test.jsonl", [_row()])
    assert VERIFIED.needs(run_of(tmp_path, tmp_path))[1].found


def test_one_answer_a_task(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="one answer of each task; n is 2"):
        VERIFIED.prepare(run_of(tmp_path, n=2, temperature=0.5))


def test_disk_and_daemon_are_asked_where_docker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    _, daemon, disk = docker_needs(gigabytes=1 << 30, purpose="a test")
    assert not daemon.found
    assert not disk.found
    assert "/var/lib/docker for a test" in disk.what


def _place(tmp_path: Path, **told: list[str]) -> Workspace:
    """A workspace with a report of swebench's that names these tasks."""
    lists = {"submitted_ids": [], "resolved_ids": [], "infra_failure_ids": [], **told}
    work = tmp_path / "work"
    work.mkdir()
    (work / "openai__loopcoder-nano.loopcoder.json").write_text(json.dumps(lists))
    return Workspace(work=work, inputs=tmp_path, log=tmp_path / "log.txt")


def test_what_could_not_be_tried_is_not_wrong(tmp_path: Path) -> None:
    place = _place(
        tmp_path,
        submitted_ids=["a", "b", "c", "d"],
        resolved_ids=["a"],
        infra_failure_ids=["c"],
    )
    found = VERIFIED.read(run_of(tmp_path), place, ["a", "b", "c", "d", "e"], ["d"])
    assert found.correct == {"a": 1.0, "b": 0.0}
    resolved, left = found.scores
    assert (resolved.metric, resolved.value, resolved.samples) == ("resolved", 0.5, 2)
    assert (left.metric, left.value, left.unit) == ("unscored", 3, "tasks")


def test_nothing_scored_and_another_report_are_told(tmp_path: Path) -> None:
    place = _place(tmp_path, submitted_ids=["a"])
    with pytest.raises(EvaluationError, match=r"none of 1 tasks could be scored; see .*log.txt"):
        VERIFIED.read(run_of(tmp_path), place, ["a"], ["a"])
    next(place.work.iterdir()).write_text("{}")
    with pytest.raises(EvaluationError, match="not the report expected"):
        VERIFIED.read(run_of(tmp_path), place, ["a"], [])


def test_failed_tasks_are_forgotten_and_others_kept(tmp_path: Path) -> None:
    ends = {"done": "Submitted", "lost": "APIConnectionError"}
    predictions = tmp_path / "preds.json"
    predictions.write_text(json.dumps({name: {} for name in (*ends, "unstarted")}))
    for name, end in ends.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.traj.json").write_text(
            json.dumps({"info": {"exit_status": end}})
        )
    failed = failed_tasks(predictions)
    assert failed == ["lost", "unstarted"]
    forget(predictions, failed)
    assert list(json.loads(predictions.read_text())) == ["done"]
    assert failed_tasks(tmp_path / "none.json") == []


@pytest.mark.slow
@needs_environment(ENVIRONMENT)
def test_a_task_in_another_format_is_named(tmp_path: Path) -> None:
    run = _run(tmp_path)
    old = _row()
    del old["eval_script"]  # as in the data of swebench 4
    write_lines(tmp_path / "data" / "test.jsonl", [_row(), old])
    with pytest.raises(EvaluationError, match=r"test.jsonl, task 2: it has no 'eval_script'"):
        VERIFIED.tasks(run, VERIFIED.prepare(run))


@pytest.mark.slow
@needs_bwrap
@needs_environment(ENVIRONMENT)
def test_the_agent_asks_the_server(nano: str, tmp_path: Path, repository: Path) -> None:
    run = _run(tmp_path, base_url=nano)
    bench = _bench(repository, "agent.step_limit=2")
    predictions = bench.predict(run, bench.prepare(run))
    (said,) = json.loads(predictions.read_text()).values()
    assert said["model_name_or_path"] == "openai/loopcoder-nano"
    assert failed_tasks(predictions) == [], "nano answers, though not with a command"
    trajectory = json.loads((predictions.parent / TASK / f"{TASK}.traj.json").read_text())
    assert trajectory["info"]["model_stats"]["api_calls"] == 2


@pytest.mark.slow
@needs_bwrap
@needs_environment(ENVIRONMENT)
def test_a_prompt_too_long_counts(nano: str, tmp_path: Path, repository: Path) -> None:
    """The agent must know our server's refusal for what it is: else the task stays unscored."""
    run = _run(tmp_path, base_url=nano)
    write_lines(tmp_path / "data" / "test.jsonl", [_row(problem_statement="word " * 3000)])
    bench = _bench(repository)
    predictions = bench.predict(run, bench.prepare(run))
    trajectory = json.loads((predictions.parent / TASK / f"{TASK}.traj.json").read_text())
    assert trajectory["info"]["exit_status"] == "ContextWindowExceededError"
    assert failed_tasks(predictions) == []


@pytest.mark.slow
@needs_bwrap
@needs_environment(ENVIRONMENT)
def test_a_right_patch_is_resolved(tmp_path: Path, repository: Path) -> None:
    """mini-swe-agent's own scripted model repairs the task; swebench grades real test output."""
    commands = ["sed -i s/-/+/ adder.py", "git diff > /tmp/p; git diff > patch.txt"]
    commands += ["echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT && cat patch.txt"]
    outputs = [
        {"role": "assistant", "content": "", "extra": {"actions": [{"command": c}], "cost": 0}}
        for c in commands
    ]
    run = _run(tmp_path)
    scripted = ("model.model_class=deterministic", f"model.outputs={json.dumps(outputs)}")
    bench = _bench(repository, *scripted)
    place = bench.prepare(run)
    tasks = bench.tasks(run, place)
    predictions = bench.predict(replace(run, base_url="http://127.0.0.1:9/v1"), place)
    patch = json.loads(predictions.read_text())[TASK]["model_patch"]
    assert "+    return a + b" in patch

    _git(repository, "checkout", "adder.py")
    _git(repository, "apply", "-", text=patch)
    (repository / "test_adder.py").write_text(TESTS)
    output = tmp_path / "test_output.txt"
    with output.open("wb") as out:
        script = _row()["eval_script"]
        subprocess.run(["bash", "-c", script], cwd=repository, stdout=out, stderr=out, check=True)
    files = [str(tmp_path / "data" / "test.jsonl"), str(predictions), str(output)]
    bench._execute("swebench's grading", ["-c", GRADE, *files], run, place)
    found = bench.read(run, place, tasks, failed_tasks(predictions))
    assert found.correct == {TASK: 1.0}


@pytest.mark.slow
@needs_environment(ENVIRONMENT)
def test_judging_without_a_daemon_fails_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    run = _run(tmp_path)
    place = VERIFIED.prepare(run)
    agent = place.work / "agent"
    agent.mkdir()
    said = {"model_name_or_path": "m", "instance_id": TASK, "model_patch": "x"}
    (agent / "preds.json").write_text(json.dumps({TASK: said}))
    with pytest.raises(EvaluationError, match=r"swebench's evaluation failed .*log is .*log.txt"):
        VERIFIED.judge(run, place)
