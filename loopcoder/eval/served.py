"""`loopcoder serve` for as long as a benchmark's own harness needs it."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopcoder.errors import EvaluationError
from loopcoder.eval.settings import EvalSettings

_START_SECONDS = 600
_STOP_SECONDS = 60


@contextmanager
def served(settings: EvalSettings, log: Path) -> Iterator[str]:
    """The base URL of an endpoint with the model: the one given, or a server of this block's own.

    The server writes to `log`. Raises `EvaluationError` with its last words if it does not start.
    """
    if settings.base_url is not None:
        yield settings.base_url
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            _command(settings), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=out
        )
        try:
            yield f"{_address(process, log)}/v1"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _command(settings: EvalSettings) -> list[str]:
    given = {
        "--model": settings.model,
        "--port": 0,
        "--served-model-name": settings.model,
        "--dtype": settings.dtype,
        "--quantization": settings.quantization,
        "--device": settings.device,
        "--loops": settings.loops,
        "--threads": settings.threads,
        "--max-num-seqs": settings.max_num_seqs,
    }
    pairs = [(name, str(value)) for name, value in given.items() if value is not None]
    return [sys.executable, "-m", "loopcoder", "serve", *(word for pair in pairs for word in pair)]


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """What the server says it listens at, which it does once the engine stands."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r" at (http://\S+)", log.read_text(encoding="utf-8"))
        if found:
            return found.group(1)
        time.sleep(0.1)
    last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
    raise EvaluationError(f"the server did not start ({' '.join(last)}); its log is {log}")
