"""`loopcoder study` as its users meet it: killed, stopped, gone on with, mistyped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loopcoder.train.checkpoints import complete_checkpoints
from tests.cli.run import loopcoder
from tests.study.recipes import rows

ONE_MODEL = ("--set=study.loops=[2]", "--set=study.seeds=[0]", "--set=arms=[{name='plt'}]")


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "loopcoder", "study", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "nothing happened in five minutes"
        time.sleep(0.05)


def has_checkpoint(out: Path) -> bool:
    return any(complete_checkpoints(run) for run in (out / "runs").glob("*") if run.is_dir())


@pytest.mark.slow
def test_the_smoke_study_from_end_to_end_through_a_kill(tmp_path: Path) -> None:
    out = tmp_path / "study"
    killed = start("study_smoke", "--out", out, "--jobs", 2)
    wait_for(lambda: has_checkpoint(out), killed)
    killed.kill()
    killed.communicate()
    began = sorted(path.name for path in (out / "runs").iterdir() if path.is_dir())
    done = loopcoder("study", "study_smoke", "--out", str(out), "--jobs", "2", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["finished"]
    assert sorted(result["models"]) == [
        "plt-R1-s0",
        "plt-R1-s1",
        "plt-R2-s0",
        "plt-R2-s1",
        "serial-R2-s0",
    ]
    assert set(began) <= set(result["models"])
    assert {"plt-R1", "plt-R2"} == result["chosen"].keys()
    assert result["advice"]["recommended_loops"] in (None, 1, 2)
    assert "about" in done.stderr
    assert "hours of training left" in done.stderr
    assert "ends " in done.stderr  # the end time
    for name in result["models"]:
        kinds = {row["kind"] for row in rows(out / "records" / name / "study.jsonl")}
        assert kinds == {"training", "depth"}
    page = (out / "report.html").read_text()
    assert "brackets" in page
    assert "serial" in page
    advised = loopcoder("advise", str(out / "records"), "--json")
    assert advised.returncode == 0, advised.stderr
    recommended = json.loads(advised.stdout)["recommended_loops"]
    assert recommended == result["advice"]["recommended_loops"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_and_the_same_command_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "study"
    words = ("study_smoke", "--out", out, "--jobs", 1, *ONE_MODEL)
    stopped = start(*words, "--set=train.run.save_every=1000")
    model = out / "runs" / "plt-R2-s0"
    wait_for(lambda: '"step": 10,' in _text(model / "metrics.jsonl"), stopped)
    stopped.send_signal(number)
    _, said = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert "stopping: models save a checkpoint" in said
    (saved,) = complete_checkpoints(model)
    assert not (out / "records" / "plt-R2-s0").exists()
    done = loopcoder("study", *map(str, words))
    assert done.returncode == 0, done.stderr
    assert f"from {saved}" in _text(model.with_suffix(".log.txt"))
    assert "plt" in done.stdout


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    for words in (
        ["nowhere"],
        ["study_smoke", "--jobs", "0"],
        ["study_smoke", "--set", "study.x=1"],
    ):
        done = loopcoder("study", *words, "--out", str(tmp_path / "study"))
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "study").exists()
