"""What the tests of the sandbox share: one real sandbox, and whether anything of a run is alive."""

import asyncio
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.sandbox import Bubblewrap, bubblewrap
from loopcoder.eval.sandbox.types import Limits, Outcome

BOMB = 96 << 20  # the memory that bombs are held to: small, so that they are quick


def sandbox_or_skip(packages: tuple[str, ...] = ()) -> Bubblewrap:
    """The sandbox, or a skipped test where this machine has none."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    try:
        return bubblewrap(packages)
    except EvaluationError as error:
        pytest.skip(str(error))


def alive(marker: str) -> list[str]:
    """Processes of this machine whose command line has the marker (a fork keeps it)."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in words:
                found.append(f"{process.name}: {words[:200]!r}")
    return found


async def until_it_runs(marker: str, run: asyncio.Future[Outcome]) -> None:
    """Wait for a process of it; a run that ended first says how."""
    while not alive(marker):
        assert not run.done(), run.result()
        await asyncio.sleep(0.01)


@dataclass
class Lab:
    """Runs Python in the sandbox, and checks that nothing of the run is left."""

    sandbox: Bubblewrap
    marker: str = field(default_factory=lambda: f"marker-{uuid.uuid4().hex}")

    def run(
        self,
        code: str,
        *,
        stdin: bytes = b"",
        files: Mapping[str, bytes] = {},
        env: Mapping[str, str] = {},
        limits: Limits | None = None,
    ) -> Outcome:
        """Run it, to its end."""
        outcome = asyncio.run(
            self.sandbox.run(
                [self.sandbox.python, "-c", code, self.marker],
                stdin=stdin,
                files=files,
                env=env,
                limits=limits or Limits(),
            )
        )
        assert alive(self.marker) == []
        return outcome


def tries(code: str, *, expected: type[BaseException] = OSError) -> str:
    """Python that does `code` and says "refused" where that raises, "done" where it does not."""
    body = "\n".join(f"    {line}" for line in code.strip().splitlines())
    return (
        f"try:\n{body}\nexcept {expected.__name__} as error:\n"
        "    print('refused', error)\nelse:\n    print('done')\n"
    )


def refused(outcome: Outcome) -> bool:
    """Whether every line that it printed says so, and it printed one."""
    lines = outcome.stdout.decode().splitlines()
    return bool(lines) and all(line.startswith("refused") for line in lines)
