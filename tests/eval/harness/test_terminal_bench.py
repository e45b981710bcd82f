"""Terminal-Bench: what it needs; harbor's real program, agent and verifier in a sandbox of ours."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loopcoder.errors import EvaluationError, RequestError
from loopcoder.eval.harness import terminal_bench
from loopcoder.eval.harness.terminal_bench import (
    HARBOR,
    JOB,
    TB,
    TerminalBench1,
    TerminalBench2,
    read_harbor,
    read_tb,
)
from tests.eval.harness.tiny import needs_environment, run_of

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is missing")
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is missing")
SANDBOX = {"environment": "bubblewrap_environment:Bubblewrap"}
COMPOSE = "services:\n  client:\n    image: none\n    command: [sleep, infinity]\n"
TB_TASK = """instruction: Write hello into hello.txt.
author_name: nobody
author_email: nobody@example.org
difficulty: easy
category: file
tags: []
parser_name: pytest
max_agent_timeout_sec: 60.0
max_test_timeout_sec: 60.0
"""


def tb_data(directory: Path) -> Path:
    """A task in the format of Terminal-Bench 1."""
    place = directory / "hello"
    place.mkdir(parents=True)
    (place / "task.yaml").write_text(TB_TASK)
    (place / "docker-compose.yaml").write_text(COMPOSE)
    (place / "run-tests.sh").write_text("#!/bin/bash\ncat hello.txt\n")
    return directory


def harbor_data(directory: Path) -> Path:
    """Two tasks in the format of Terminal-Bench 2."""
    verify = 'if [ "$(cat /app/hello.txt)" = hello ]; then echo 1; else echo 0; fi'
    for name in ("hello", "world"):
        files = {
            "task.toml": 'schema_version = "1.4"\n[metadata]\n[verifier]\n[agent]\n[environment]\n',
            "instruction.md": "Write hello into /app/hello.txt.\n",
            "environment/Dockerfile": "FROM ubuntu:24.04\n",
            "solution/solve.sh": "#!/bin/bash\necho hello > /app/hello.txt\n",
            "tests/test.sh": f"#!/bin/bash\n{verify} > /logs/verifier/reward.txt\n",
        }
        for file, text in files.items():
            path = directory / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return directory


@pytest.mark.parametrize(
    ("bench", "data", "remedy"),
    [
        (TerminalBench1(), tb_data, "tb datasets download -d terminal-bench-core==0.1.1"),
        (TerminalBench2(), harbor_data, "harbor datasets download terminal-bench@2.0"),
    ],
)
def test_it_names_each_missing_piece(
    bench: TerminalBench1 | TerminalBench2,
    data: Any,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(bench.environment.variable, str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    python, tasks, docker, daemon, _ = bench.needs(run_of(tmp_path, tmp_path))
    assert not any(need.found for need in (python, tasks, docker, daemon))
    assert remedy in tasks.remedy
    assert bench.needs(run_of(tmp_path, data(tmp_path / "data")))[1].found


def test_other_containers_need_no_docker(tmp_path: Path) -> None:
    told = [n.what for n in TerminalBench2().needs(run_of(tmp_path, options={"environment": "x"}))]
    assert not any("ocker" in what for what in told)


def test_equal_answers_are_refused(tmp_path: Path) -> None:
    for bench in (TerminalBench1(), TerminalBench2()):
        with pytest.raises(RequestError, match="2 answers of each task at temperature 0"):
            bench.run(run_of(tmp_path, n=2))


def test_tb_what_could_not_be_tried_is_not_wrong(tmp_path: Path) -> None:
    """`tb` counts a task whose container did not start, or whose model was gone, as unsolved."""
    ends = [("a", True, "unset"), ("a", False, "agent_timeout"), ("b", False, "unset")]
    ends += [("c", None, "unknown_agent_error"), ("d", None, "parse_error")]
    trials = [{"task_id": t, "is_resolved": r, "failure_mode": f} for t, r, f in ends]
    report = tmp_path / "results.json"
    report.write_text(json.dumps({"results": trials}))
    found = read_tb("tb", report, ["a", "b", "c", "d"], tmp_path / "log.txt")
    assert found.correct == {"a": 0.5, "b": 0.0, "d": 0.0}
    assert [(s.metric, s.value) for s in found.scores] == [("solved", 0.5 / 3), ("unscored", 1)]
    with pytest.raises(EvaluationError, match="none of 1 tasks could be scored"):
        read_tb("tb", report, ["c"], tmp_path / "log.txt")
    report.write_text('{"results": [{}]}')
    with pytest.raises(EvaluationError, match="not the report expected"):
        read_tb("tb", report, ["a"], tmp_path / "log.txt")


def test_harbor_what_could_not_be_tried_is_not_wrong(tmp_path: Path) -> None:
    solved = {"rewards": {"reward": 1.0}}
    trials: list[tuple[str, Any, str | None]] = [("a", solved, None)]
    trials += [("b", None, "AgentTimeoutError"), ("c", None, "RuntimeError")]
    for name, verdict, failure in trials:
        (tmp_path / f"{name}__x").mkdir()
        trial = {
            "task_id": {"path": f"/data/{name}"},
            "verifier_result": verdict,
            "exception_info": failure and {"exception_type": failure},
        }
        (tmp_path / f"{name}__x" / "result.json").write_text(json.dumps(trial))
    found = read_harbor("tb2", tmp_path, ["a", "b", "c"], tmp_path / "log.txt")
    assert found.correct == {"a": 1.0, "b": 0.0}
    assert [(s.metric, s.value) for s in found.scores] == [("solved", 0.5), ("unscored", 1)]


@pytest.mark.slow
@needs_environment(TB)
def test_tb_without_docker_scores_nothing(
    nano: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real `tb` reads the task, ends with status 0 and says 0 %: that is no score."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    monkeypatch.setattr(terminal_bench, "require", lambda *_: None)
    run = run_of(tmp_path / "out", tb_data(tmp_path / "data"), base_url=nano)
    with pytest.raises(EvaluationError, match=r"none of 1 tasks could be scored; see .*log.txt"):
        TerminalBench1().run(run)
    (report,) = (tmp_path / "out").rglob(f"{JOB}/results.json")
    told = json.loads(report.read_text())
    assert told["accuracy"] == 0.0
    assert told["results"][0]["task_id"] == "hello"


@pytest.fixture
def sandboxed(monkeypatch: pytest.MonkeyPatch) -> None:
    """harbor finds the environment that stands beside this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.mark.slow
@needs_bwrap
@needs_tmux
@needs_environment(HARBOR)
@pytest.mark.usefixtures("sandboxed")
def test_harbor_runs_its_agent_against_a_server(nano: str, tmp_path: Path) -> None:
    bench = TerminalBench2(agent=("max_turns=1", "record_terminal_session=false"))
    data = harbor_data(tmp_path / "data")
    run = run_of(tmp_path / "out", data, base_url=nano, options=SANDBOX, limit=1)
    first = bench.run(run)
    assert first.correct == {"hello": 0.0}, "nano writes no command"
    (trial,) = (tmp_path / "out").rglob(f"{JOB}/*/result.json")
    assert json.loads(trial.read_text())["verifier_result"] == {"rewards": {"reward": 0.0}}
    before = trial.stat().st_mtime_ns
    assert bench.run(replace(run, workers=3)) == first
    assert trial.stat().st_mtime_ns == before, "what was done is not done again"
    told = json.loads(trial.read_text())
    trial.write_text(json.dumps({**told, "verifier_result": None, "exception_info": None}))
    assert bench.run(run) == first, "what failed is"
    assert not trial.exists()


@pytest.mark.slow
@needs_bwrap
@needs_environment(HARBOR)
@pytest.mark.usefixtures("sandboxed")
def test_harbor_finds_solutions_right(nano: str, tmp_path: Path) -> None:
    """harbor's own agent that types each task's solution; our reader of what it writes."""
    data = harbor_data(tmp_path / "data")
    run = run_of(tmp_path / "out", data, base_url=nano)
    place = terminal_bench.workspace("oracle", run, SANDBOX)
    command = ["run", "--agent", "oracle", "--path", str(data), "--env", SANDBOX["environment"]]
    command += ["--jobs-dir", str(place.work), "--job-name", JOB, "--yes", "--quiet"]
    terminal_bench._execute("harbor", HARBOR, command, run, place)
    found = read_harbor("tb2", place.work / JOB, ["hello", "world"], place.log)
    assert found.correct == {"hello": 1.0, "world": 1.0}
