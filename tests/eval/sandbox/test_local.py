"""No sandbox: what is kept all the same (time, output, files of its own) and what is not."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from loopcoder.eval.sandbox import unsafe_local
from loopcoder.eval.sandbox.types import EndedError, Limits, Outcome
from tests.eval.sandbox.support import alive

pytestmark = pytest.mark.slow
MARKER = f"marker-local-{os.getpid()}"


def _run(code: str, limits: Limits | None = None, stdin: bytes = b"") -> Outcome:
    local = unsafe_local()
    argv = [local.python, "-c", code, MARKER]
    running = local.run(argv, stdin=stdin, files={"a/b": b"file"}, limits=limits or Limits())
    outcome = asyncio.run(running)
    _until_none_is_alive()
    return outcome


def _until_none_is_alive() -> None:
    """Killed all at once, but without a namespace nobody can wait for a grandchild's end."""
    until = time.monotonic() + 60
    while alive(MARKER) and time.monotonic() < until:
        time.sleep(0.01)
    assert alive(MARKER) == []


def test_a_run() -> None:
    code = "import os, sys\nprint(sys.stdin.read(), open('a/b').read(), os.getcwd()); sys.exit(3)"
    outcome = _run(code, stdin=b"input")
    said, read, directory = outcome.stdout.decode().split()
    assert (said, read, outcome.returncode) == ("input", "file", 3)
    assert not Path(directory).exists()


@pytest.mark.parametrize(
    ("code", "limits", "stopped"),
    [
        ("while True: pass", Limits(seconds=1.0), "time"),
        ("import os\nos.fork()\nwhile True: pass", Limits(seconds=1.0), "time"),
        ("while True: print('x' * 999)", Limits(seconds=60, output_bytes=10_000), "output"),
    ],
)
def test_limits(code: str, limits: Limits, stopped: str) -> None:
    outcome = _run(code, limits)
    assert (outcome.stopped, outcome.returncode) == (stopped, -9)


def test_what_stays_in_its_group_is_killed() -> None:
    outcome = _run("import os, time\nif os.fork() == 0: time.sleep(600)\nprint('first')")
    assert (outcome.returncode, outcome.stdout) == (0, b"first\n")


def test_signals_and_the_address_space() -> None:
    assert _run("import os; os.kill(os.getpid(), 15)").returncode == -15
    assert b"MemoryError" in _run("bytearray(1 << 40)").stderr


def test_a_session() -> None:
    async def talk() -> None:
        local = unsafe_local()
        code = "import sys\nfor line in sys.stdin: print(line.strip() * 2, flush=True)"
        async with local.session([local.python, "-c", code, MARKER]) as session:
            await session.send(b"ab")
            assert await session.receive(60) == b"abab"
            assert (await session.close()).returncode == -9
            with pytest.raises(EndedError):
                await session.receive(60)

    asyncio.run(talk())
    _until_none_is_alive()
