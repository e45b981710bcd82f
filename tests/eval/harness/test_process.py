"""Somebody else's program: its log, its failures, and nothing left of it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.harness import process
from loopcoder.eval.harness.process import execute, served
from tests.eval.harness.tiny import NOWHERE


def _execute(
    tmp_path: Path,
    program: str,
    *,
    seconds: float | None = None,
    alive: Callable[[], bool] | None = None,
) -> str:
    log = tmp_path / "log.txt"
    command = [sys.executable, "-u", "-I", "-S", "-c", program]
    given = {"A": "1"}
    execute(
        command,
        log,
        what="it",
        cwd=tmp_path,
        environment=given,
        seconds=seconds,
        alive=alive,
    )
    return log.read_text()


def test_what_it_prints_is_in_the_log(tmp_path: Path) -> None:
    program = "import os, sys; print(os.environ['A']); print(os.getcwd(), file=sys.stderr)"
    assert _execute(tmp_path, program).split() == ["1", str(tmp_path)]


def test_it_reads_nothing(tmp_path: Path) -> None:
    assert _execute(tmp_path, "import sys; print(repr(sys.stdin.read()))") == "''\n"


def test_a_status_is_one_line_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError) as caught:
        _execute(tmp_path, "print('first'); raise SystemExit('no such model')")
    log = tmp_path / "log.txt"
    assert str(caught.value) == f"it failed with status 1 (no such model); its log is {log}"


def test_one_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"it did not end in 0 s; its log is"):
        _execute(tmp_path, "import time; time.sleep(60)", seconds=0.2)


@pytest.mark.slow
def test_one_that_asks_a_dead_server_for_ever_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ALIVE_EVERY", 0.01)
    with pytest.raises(EvaluationError, match=r"was stopped: the model is no longer served"):
        _execute(tmp_path, "import time; time.sleep(60)", alive=lambda: served(NOWHERE, "none"))


@pytest.mark.slow
def test_what_it_leaves_running_ends_with_it(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(0.5); open({str(mark)!r}, 'w')"
    program = f"import subprocess, sys; subprocess.Popen([sys.executable, '-I', '-c', {child!r}])"
    _execute(tmp_path, program)
    time.sleep(1)
    assert not mark.exists()
