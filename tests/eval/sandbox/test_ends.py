"""However we end, the program ends too: a cancelled task, Ctrl-C, our own death."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Coroutine
from typing import Any

import anyio
import pytest

from loopcoder.eval.sandbox.types import Limits, Outcome
from tests.eval.sandbox.support import Lab, alive, until_it_runs

pytestmark = pytest.mark.slow

RUNNING = 2 * (2 + 4)  # of each sandbox bubblewrap's two processes, and four of the program
FOREVER = "import os\nos.fork()\nos.fork()\nwhile True: pass"


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_cancelled_run(lab: Lab) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(_forever(lab))
        await until_it_runs(lab.marker, task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert alive(lab.marker) == []

    asyncio.run(cancelled())


def test_a_cancelled_scope_of_anyio(lab: Lab) -> None:
    """Inspect's tasks run in these; there every further await of a cancelled task raises."""

    async def scoped() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(_forever, lab)
            while not alive(lab.marker):
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        assert alive(lab.marker) == []

    asyncio.run(scoped())


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04])
def test_cancelled_while_it_is_set_up(lab: Lab, delay: float) -> None:
    async def early() -> None:
        with anyio.move_on_after(delay):
            await _forever(lab)
        assert alive(lab.marker) == []

    asyncio.run(early())


def test_no_file_stays_open(lab: Lab) -> None:
    lab.run("pass")
    before = _open_files()
    for code in ("pass", "raise SystemExit(1)", "while True: print('x' * 999)"):
        lab.run(code)
    with pytest.raises(ValueError, match="NUL"):
        lab.run("pass", env={"A": "\0"})

    async def more() -> None:
        async with lab.sandbox.session(["cat"]) as session:
            await session.send(b"line")
            await session.receive(60)
        lab.sandbox.session(["cat"])  # made and never entered
        with anyio.move_on_after(0.01):
            await _forever(lab)

    asyncio.run(more())
    assert _open_files() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_we_are_killed(lab: Lab, number: signal.Signals) -> None:
    """Ctrl-C, which a terminal sends to all in front; and a death that asks nobody."""
    code = f"""
    import asyncio
    from loopcoder.eval.sandbox import bubblewrap
    sandbox = bubblewrap()
    argv = [sandbox.python, "-c", {FOREVER!r}, {lab.marker!r}]
    async def main():
        async with sandbox.keep() as kept:
            await asyncio.gather(sandbox.run(argv), kept.run(argv))
    asyncio.run(main())
    """
    ours = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        while len(_theirs(lab.marker, ours.pid)) < RUNNING and time.monotonic() < until:
            time.sleep(0.02)
        assert len(_theirs(lab.marker, ours.pid)) >= RUNNING
        os.killpg(ours.pid, number)
        ours.wait(60)
        while _theirs(lab.marker, ours.pid) and time.monotonic() < until:
            time.sleep(0.02)
        assert _theirs(lab.marker, ours.pid) == []
    finally:
        ours.kill()
        ours.wait()


def _theirs(marker: str, ours: int) -> list[str]:
    return [line for line in alive(marker) if not line.startswith(f"{ours}:")]


def _forever(lab: Lab) -> Coroutine[Any, Any, Outcome]:
    argv = [lab.sandbox.python, "-c", FOREVER, lab.marker]
    return lab.sandbox.run(argv, limits=Limits(seconds=60.0))
