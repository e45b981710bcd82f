"""No sandbox: the program has all the rights of whoever runs this. Only for --unsafe-local."""

import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from loopcoder.eval.sandbox.launch import restrained
from loopcoder.eval.sandbox.session import Running, run_to_end, talking
from loopcoder.eval.sandbox.supervise import Launch
from loopcoder.eval.sandbox.types import USUAL, Limits, Outcome, Session


def unsafe_local() -> "UnsafeLocal":
    """Runs programs as they are: they read and write what you may, and reach the network."""
    return UnsafeLocal()


class UnsafeLocal:
    """A `Sandbox` (types) that keeps only the limits on time, output, file size and, for each
    process, address space; what it starts is killed if it stays in the process group.
    """

    name = "unsafe-local"
    python = sys.executable

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        files: Mapping[str, bytes] = {},
        env: Mapping[str, str] = {},
        limits: Limits = USUAL,
    ) -> Outcome:
        """Run a program to its end; `files` lie in its working directory, a temporary one."""
        with tempfile.TemporaryDirectory(prefix="loopcoder-", ignore_cleanup_errors=True) as home:
            _write(Path(home), files)
            given = os.memfd_create("stdin")
            os.write(given, stdin)
            os.lseek(given, 0, os.SEEK_SET)
            return await run_to_end(_launch(argv, home, env, given, limits), limits)

    def session(
        self,
        argv: Sequence[str],
        *,
        files: Mapping[str, bytes] = {},
        env: Mapping[str, str] = {},
        limits: Limits = USUAL,
    ) -> AbstractAsyncContextManager[Session]:
        """A program to talk with; leaving kills its process group."""
        return self._session(argv, files, env, limits)

    @asynccontextmanager
    async def _session(
        self,
        argv: Sequence[str],
        files: Mapping[str, bytes],
        env: Mapping[str, str],
        limits: Limits,
    ) -> AsyncIterator[Running]:
        with tempfile.TemporaryDirectory(prefix="loopcoder-", ignore_cleanup_errors=True) as home:
            _write(Path(home), files)
            async with talking(_launch(argv, home, env, None, limits), limits) as running:
                yield running


def _launch(
    argv: Sequence[str], home: str, env: Mapping[str, str], stdin: int | None, limits: Limits
) -> Launch:
    given = {"HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    path = {"PATH": os.environ.get("PATH", os.defpath)}
    return Launch(
        argv=[*restrained(limits), *argv], env={**path, **given, **env}, directory=home, stdin=stdin
    )


def _write(home: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
