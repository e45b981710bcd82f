"""A real server: `loopcoder serve` in its own process, on a free port, ended by SIGTERM."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

ROOT = Path(__file__).parents[2]


@dataclass(kw_only=True)
class Served:
    """A running server."""

    process: subprocess.Popen[bytes]
    url: str
    log: IO[str] = field(repr=False)

    def stats(self) -> dict:
        """Its counters now."""
        return httpx.get(f"{self.url}/stats").raise_for_status().json()

    def idle(self, timeout: float = 20) -> dict:
        """Its counters once nothing runs or waits."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            stats = self.stats()
            if not (stats["outstanding"] or stats["running"] or stats["waiting"]):
                return stats
            time.sleep(0.02)
        raise AssertionError(f"the server is not idle after {timeout} s: {self.stats()}")

    def logged(self) -> str:
        """What it has written to standard error."""
        self.log.seek(0)
        return self.log.read()


@contextmanager
def serving(*options: str, model: str = "loopcoder-nano", **environment: str) -> Iterator[Served]:
    """A server with `options`; it has ended when the block is left."""
    command = [sys.executable, "-m", "loopcoder", "serve", "--model", model, "--port", "0"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, "--threads", "1", *options],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        )
        try:
            server = Served(process=process, url=_url(process, log), log=log)
            yield server
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _url(process: subprocess.Popen[bytes], log: IO[str]) -> str:
    """The address that the server says it listens on, which is when the engine stands."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        log.seek(0)
        written = log.read()
        found = re.search(r" at (http://\S+)", written)
        if found:
            return found.group(1)
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}: {written}")
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {written}")
