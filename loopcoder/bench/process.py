"""A worker process seen from the parent: started, asked, stopped between turns, ended.

Messages are JSON lines: {"do": name, ...} one way, {"ok": result}, {"missing": advice} or
{"error": text} the other. A worker that is not measured is stopped by a signal: OpenMP threads
that spin at the end of their work would take the processor from the one that is measured.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import loopcoder
from loopcoder.bench.worker import NotInstalledError
from loopcoder.errors import LoopCoderError

_PACKAGE = Path(loopcoder.__file__).resolve()

# Puts this package, and nothing else of this Python's, into a Python that may be another one.
_BOOTSTRAP = """
import importlib.util, sys
path, engine = sys.argv[1:]
spec = importlib.util.spec_from_file_location("loopcoder", path)
sys.modules["loopcoder"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from loopcoder.bench.worker import main
main(engine)
"""


class WorkerError(LoopCoderError, RuntimeError):
    """A worker could not do what it was asked; the message is the engine's own."""


class Worker:
    """One process with one engine. Not to be shared between threads."""

    def __init__(self, engine: str, *, python: str | None = None, threads: int) -> None:
        self.engine = engine
        # Closed in `close`, with the process that writes to it.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONSAFEPATH": "1"}
        try:
            # In a process group of its own: Ctrl-C is the parent's to handle, and a worker that
            # the parent leaves behind in a stopped state is ended by the system.
            self._process = subprocess.Popen(
                [python or sys.executable, "-c", _BOOTSTRAP, str(_PACKAGE), engine],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment,
                process_group=0,
                text=True,
            )
        except OSError as error:
            self._log.close()
            raise WorkerError(
                f"{engine}: {python} cannot be started ({error.strerror}); give the path of a "
                f"Python with --peer-python {engine}=PATH"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have a command done and return its result.

        Raises `NotInstalledError` for an engine that is not there, `WorkerError` for the rest.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"{self.engine} ended while asked to {do}: {self._last_words()}")
        answer = json.loads(line)
        if "missing" in answer:
            raise NotInstalledError(answer["missing"])
        if "error" in answer:
            raise WorkerError(f"{self.engine} could not {do}: {answer['error']}")
        return answer["ok"]

    @property
    def pid(self) -> int:
        """The process, which leads a group of its own."""
        return self._process.pid

    def stop(self) -> None:
        """Suspend every thread of the process."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stopped process go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the process and wait until its memory is free again."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._log.close()

    def _last_words(self) -> str:
        self._process.wait(timeout=10)
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        reason = lines[-1] if lines else "it said nothing"
        return f"{reason} (status {self._process.returncode})"
