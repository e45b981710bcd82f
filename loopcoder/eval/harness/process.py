"""Running somebody else's program: its log in a file, its failure as one line."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from loopcoder.errors import EvaluationError
from loopcoder.eval.harness.memory import hold_below

POLL = 0.2  # seconds between two looks at a running program
ALIVE_EVERY = 5.0  # seconds between two questions whether the model is still served
MISSES = 3  # unanswered questions in a row after which it is not


def execute(
    command: Sequence[str],
    log: Path,
    *,
    what: str,
    cwd: Path,
    environment: Mapping[str, str],
    seconds: float | None = None,
    alive: Callable[[], bool] | None = None,
    memory: int | None = None,
) -> None:
    """Run a program to its end, with nothing to read and all it prints added to `log`.

    `alive` says whether what the program talks to is still there: some harnesses ask for ever.
    Above `memory` bytes of all its processes together, the largest of them is killed.
    Raises `EvaluationError` for a status other than 0, for `seconds` passed, for a dead endpoint;
    the message has the program's last line and the log's path. No process is left behind.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            problem = _watch(process, seconds, alive, memory)
        finally:
            _end(process)
    if problem is not None:
        raise EvaluationError(f"{what} {problem}{_last_line(log)}; its log is {log}")


def served(base_url: str, api_key: str) -> bool:
    """Whether an OpenAI-compatible server answers at `base_url` (it ends in /v1)."""
    request = urllib.request.Request(
        f"{base_url.rstrip('/')}/models", headers={"Authorization": f"Bearer {api_key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=ALIVE_EVERY) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _watch(
    process: subprocess.Popen[bytes],
    seconds: float | None,
    alive: Callable[[], bool] | None,
    memory: int | None,
) -> str | None:
    started = asked = time.monotonic()
    misses = 0
    while process.poll() is None:
        time.sleep(POLL)
        now = time.monotonic()
        if memory is not None:
            hold_below(memory, process.pid)
        if seconds is not None and now - started > seconds:
            return f"did not end in {seconds:.0f} s"
        if alive is not None and now - asked > ALIVE_EVERY:
            misses = 0 if alive() else misses + 1
            asked = time.monotonic()
            if misses == MISSES:
                return "was stopped: the model is no longer served"
    return f"failed with status {process.returncode}" if process.returncode else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program's whole session, whatever it left running in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        text = file.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return f" ({lines[-1][:200]})" if lines else ""
