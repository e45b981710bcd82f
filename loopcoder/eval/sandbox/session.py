"""The asyncio face of a `Supervisor`: run to the end, or talk in lines; cancelling kills."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from loopcoder.eval.sandbox.supervise import Launch, Supervisor
from loopcoder.eval.sandbox.types import EndedError, Limits, Outcome


class Running:
    """A `Session` (types): a program that runs, supervised by a thread of its own."""

    def __init__(self, launch: Launch, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._supervisor = Supervisor(launch, limits, self._tell)
        self._thread = threading.Thread(
            target=self._supervisor.run, name="loopcoder-sandbox", daemon=True
        )
        self._thread.start()

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._news.set)

    @property
    def pid(self) -> int:
        """The first process of the program, as this system numbers it."""
        return self._supervisor.pid

    async def send(self, line: bytes) -> None:
        """Write one line (the line feed is added). Raises `EndedError` where it is gone."""
        self._raise_if_over()
        self._supervisor.write(line + b"\n")

    async def receive(self, timeout: float) -> bytes:
        """The next line; raises `TimeoutError` or `EndedError`."""
        async with asyncio.timeout(timeout):
            while True:
                self._news.clear()
                over = not self._thread.is_alive() or self._over()
                line = self._supervisor.take_line()
                if line is not None:
                    return line
                if over:
                    self._raise_if_over()
                await self._news.wait()

    async def started(self) -> None:
        """Wait until the program itself runs. Raises `EvaluationError` where it cannot."""
        while not self._supervisor.started.is_set():
            self._news.clear()
            if not self._supervisor.started.is_set():
                await self._news.wait()
        if self._supervisor.failure is not None:
            raise self._supervisor.failure

    async def end(self) -> Outcome:
        """Wait for its end. Cancelled, it kills the program, and it is gone before this returns."""
        try:
            while not self._over():
                self._news.clear()
                if not self._over():
                    await self._news.wait()
        finally:
            self.kill()
        return self._outcome()

    async def close(self) -> Outcome:
        """Kill what is left and say how it ended."""
        self._supervisor.stop()
        return await self.end()

    def kill(self) -> None:
        """Kill it and wait, a few milliseconds, blocking: a cancelled task must not await."""
        self._supervisor.stop()
        self._thread.join()

    def _over(self) -> bool:
        return self._supervisor.outcome is not None or self._supervisor.failure is not None

    def _outcome(self) -> Outcome:
        if self._supervisor.failure is not None:
            raise self._supervisor.failure
        assert self._supervisor.outcome is not None
        return self._supervisor.outcome

    def _raise_if_over(self) -> None:
        if self._over():
            raise EndedError(self._outcome())


async def run_to_end(launch: Launch, limits: Limits) -> Outcome:
    """Run it; nothing of it is alive when this returns or raises."""
    return await Running(launch, limits).end()


@asynccontextmanager
async def talking(launch: Launch, limits: Limits) -> AsyncIterator[Running]:
    """Start it and talk; leaving kills everything."""
    running = Running(launch, limits)
    try:
        await running.started()
        yield running
    finally:
        running.kill()
