"""A whole evaluator locked up: what it can see and do, asked of a real one."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loopcoder.eval.harness.contained import UID, contained, python_prefixes
from loopcoder.eval.harness.needs import sandbox_need
from loopcoder.eval.harness.process import execute
from tests.eval.harness.tiny import is_root

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sandbox_need().found, reason="bubblewrap is missing or refused"),
]

REPOSITORY = Path(__file__).parents[3]
HOME = Path.home()
SHOWN = python_prefixes(Path(sys.executable))

PROBE = """
import json, os, socket, sys, time

def can(action):
    try:
        action()
    except OSError:
        return False
    return True

def connect():
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2)

def forks():
    count = 0
    try:
        while count < 3000:
            if os.fork() == 0:
                time.sleep(60)
            count += 1
    except OSError:
        pass
    return count

home, repository, inputs = sys.argv[2:5]
seen = {
    "uid": os.getuid(),
    "network": can(connect),
    "home": os.listdir(home) if can(lambda: os.listdir(home)) else [],
    "repository": can(lambda: os.listdir(repository)),
    "usr": can(lambda: open("/usr/x", "w")),
    "inputs": can(lambda: open(inputs + "/x", "w")),
    "read": open(inputs + "/given").read(),
    "environment": sorted(os.environ),
    "processes": sorted(name for name in os.listdir("/proc") if name.isdigit()),
    "tmp": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize,
    "privileges": int(open("/proc/self/status").read().split("CapBnd:")[1].split()[0], 16),
}
json.dump(seen, open("seen.json", "w"))
print(forks())
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a program in there found out; a server listens outside while it tries."""
    directory = tmp_path_factory.mktemp("contained")
    inputs, work = directory / "inputs", directory / "work"
    inputs.mkdir()
    work.mkdir()
    (inputs / "given").write_text("something")
    python = Path(sys.executable)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        words = [port, str(HOME), str(REPOSITORY / "tests"), str(inputs)]
        argv = contained(
            [str(python), "-I", "-S", "-c", PROBE, *words],
            readable=[*SHOWN, inputs],
            writable=work,
            environment={"GIVEN": "1"},
        )
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    return {**json.loads((work / "seen.json").read_text()), "forks": int(done.stdout.split()[0])}


def test_it_has_no_network(seen: dict[str, object]) -> None:
    assert seen["network"] is False


def test_it_sees_what_it_was_shown_and_cannot_change_it(seen: dict[str, object]) -> None:
    assert seen["read"] == "something"
    assert (seen["inputs"], seen["usr"]) == (False, False)


def test_it_sees_neither_home_nor_repository(seen: dict[str, object]) -> None:
    assert seen["repository"] is False
    shown = {path.relative_to(HOME).parts[0] for path in SHOWN if path.is_relative_to(HOME)}
    assert set(seen["home"]) <= shown, "only the way to our Python"


def test_it_gets_nothing_of_our_environment(seen: dict[str, object]) -> None:
    assert {"GIVEN", "HOME", "PATH"} <= set(seen["environment"])
    assert "PYTEST_CURRENT_TEST" not in seen["environment"]


def test_it_has_processes_of_its_own_only(seen: dict[str, object]) -> None:
    assert str(os.getpid()) not in seen["processes"] or len(seen["processes"]) < 5


def test_its_tmp_is_small(seen: dict[str, object]) -> None:
    assert seen["tmp"] <= 1 << 30


@pytest.mark.skipif(not is_root(), reason="we are not root")
def test_root_is_another_user_there_and_bounded(seen: dict[str, object]) -> None:
    assert seen["uid"] == UID
    assert seen["privileges"] == 0
    assert seen["forks"] < 1024


BOMB = """
import subprocess, sys
eat = "x = []" + chr(10) + "while True: x.append(bytearray(b'1' * (1 << 20)))"
killed = [subprocess.run([sys.executable, "-I", "-S", "-c", eat]).returncode for _ in range(2)]
print("went on", killed)
"""


def test_an_answer_that_eats_memory_is_killed_and_the_evaluator_goes_on(tmp_path: Path) -> None:
    python = Path(sys.executable)
    work = tmp_path / "work"
    work.mkdir()
    argv = contained(
        [str(python), "-u", "-I", "-S", "-c", BOMB],
        readable=SHOWN,
        writable=work,
        environment={},
    )
    log = tmp_path / "log.txt"
    given = {"PATH": os.environ["PATH"]}
    execute(argv, log, what="it", cwd=work, environment=given, seconds=60, memory=256 << 20)
    assert log.read_text() == "went on [-9, -9]\n"


def test_the_tools_that_it_is_made_of_are_here() -> None:
    assert all(shutil.which(tool) for tool in ("bwrap", "setpriv", "prlimit"))
