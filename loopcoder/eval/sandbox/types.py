"""What every sandbox promises: limits, how a run ended, and a process to talk with."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

Stopped = Literal["time", "memory", "output", "disk"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one run may use; bytes and seconds. `memory_bytes` is for all its processes together."""

    seconds: float = 10.0
    memory_bytes: int = 1 << 30
    processes: int = 64
    file_bytes: int = 16 << 20
    disk_bytes: int = 64 << 20
    output_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        """Refuse limits that nothing can run under."""
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"the limit {name} is {value!r}; it must be above 0")


USUAL = Limits()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended. `returncode` is negative for a signal; `stopped` names the limit hit."""

    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float
    stopped: Stopped | None = None


class EndedError(Exception):
    """The process is gone while an answer was awaited; `outcome` says how."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"ended with status {outcome.returncode}, stopped by {outcome.stopped}")
        self.outcome = outcome


class Session(Protocol):
    """A running process, spoken with in lines over its standard input and output."""

    async def send(self, line: bytes) -> None:
        """Write one line (the line feed is added). Raises `EndedError` where it is gone."""

    async def receive(self, timeout: float) -> bytes:
        """The next line, without its line feed.

        Raises `TimeoutError` after `timeout` seconds, `EndedError` where the process is gone or was
        stopped by a limit (a line above `output_bytes` among them).
        """

    async def close(self) -> Outcome:
        """Kill what is left and say how it ended."""


class Sandbox(Protocol):
    """Runs programs where they can do no harm. `python` is the interpreter's path inside."""

    name: str
    python: str

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        files: Mapping[str, bytes] = {},
        env: Mapping[str, str] = {},
        limits: Limits = USUAL,
    ) -> Outcome:
        """Run a program to its end; `files` (name: content) lie in its working directory, /tmp."""

    def session(
        self,
        argv: Sequence[str],
        *,
        files: Mapping[str, bytes] = {},
        env: Mapping[str, str] = {},
        limits: Limits = USUAL,
    ) -> AbstractAsyncContextManager[Session]:
        """A program to talk with. Its time limit is of its whole life; leaving kills everything."""
