"""Real servers: how each is started, and one of them as a process."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from loopcoder.bench.peers.vllm import ADVICE as VLLM_ADVICE
from loopcoder.bench.process import WorkerError
from loopcoder.bench.serving.plan import OURS, Plan

_PAGE = 32  # tokens in a block of transformers' memory, its own default
_START_SECONDS = 900
_END_SECONDS = 20
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A server to be: `command` without its port, which `port_option` gives.

    `model` is what requests call the model. See `Load.strict`.
    """

    name: str
    engine: str
    loops: int
    command: tuple[str, ...]
    model: str
    advice: str = ""
    strict: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def our_server(directory: Path, plan: Plan, *, loops: int, threads: int) -> Spec:
    """`loopcoder serve` with room for all clients."""
    options = {"max-num-seqs": plan.slots, "threads": threads, "loops": loops}
    return Spec(
        name=f"R{loops}",
        engine=OURS,
        loops=loops,
        command=(
            *(sys.executable, "-m", "loopcoder", "serve", "--model", str(directory)),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
        ),
        model=str(directory),
    )


def peer_server(peer: str, python: str | None, dense: Path, plan: Plan, *, threads: int) -> Spec:
    """A peer's server on the dense checkpoint, in the Python where it is installed."""
    build = {"vllm": _vllm, "transformers": _transformers}[peer]
    return build(python or sys.executable, dense, plan, threads)


def _vllm(python: str, dense: Path, plan: Plan, threads: int) -> Spec:
    """vLLM's defaults, but no prefix cache (nothing is repeated) and weights of its own."""
    options = {
        "model": dense,
        "served-model-name": "dense",
        "load-format": "dummy",  # it refuses a checkpoint that also has gates
        "dtype": "bfloat16",
        "max-num-seqs": plan.slots,
        "uvicorn-log-level": "warning",
    }
    return Spec(
        name="vllm",
        engine="vllm",
        loops=1,
        command=(
            *(python, "-m", "vllm.entrypoints.openai.api_server"),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
            *("--no-enable-prefix-caching", "--disable-log-stats"),
        ),
        model="dense",
        advice=VLLM_ADVICE,
        environment={
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
        },
    )


def _transformers(python: str, dense: Path, plan: Plan, threads: int) -> Spec:
    """`transformers serve` with continuous batching, without which it answers one at a time.

    Its memory for keys and values is what the load needs: by default it takes most of the
    machine's.
    """
    sequence = -(-(plan.prompt + plan.tokens) // _PAGE) + 1
    run = "from transformers.cli.transformers import main; main()"
    options = {
        "device": "cpu",
        "dtype": "bfloat16",
        "log-level": "error",
        "cb-block-size": _PAGE,
        "cb-num-blocks": 2 * plan.slots * sequence,
    }
    return Spec(
        name="transformers",
        engine="transformers",
        loops=1,
        command=(
            *(python, "-c", run, "serve", str(dense), "--continuous-batching"),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
        ),
        model=str(dense),
        advice='pip install "transformers[serving]"',
        strict=True,
    )


class Server:
    """A running server, with all its processes in one group. Not for several threads."""

    def __init__(self, spec: Spec, *, threads: int) -> None:
        """Start it on a free port and wait until it says that it is well.

        Raises `WorkerError`, with what it said last, if it ends instead.
        """
        self.spec = spec
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        # Closed in `close`, with the process that writes to it.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        environment = {"OMP_NUM_THREADS": str(threads), **_ENVIRONMENT, **spec.environment}
        self.begun = time.monotonic()
        self._process = subprocess.Popen(
            [*spec.command, "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            process_group=0,
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _wait(self) -> None:
        while time.monotonic() < self.begun + _START_SECONDS:
            if self._process.poll() is not None:
                raise WorkerError(f"{self.spec.name} did not start: {self._last_words()}")
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:  # it does not listen yet
                time.sleep(0.005)
        raise WorkerError(f"{self.spec.name} did not start in {_START_SECONDS} s")

    def first_token(self) -> float:
        """Ask for a token: seconds from the start of the process until it is here."""
        self._ask(1)
        return time.monotonic() - self.begun

    def warm_up(self, clients: int, tokens: int = 4) -> None:
        """Have it answer so many at once: what it does only once, it does here."""
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self._ask, [tokens] * clients))

    def _ask(self, tokens: int) -> None:
        body: dict[str, Any] = {"model": self.spec.model, "prompt": "def", "max_tokens": tokens}
        request = urllib.request.Request(
            f"{self.url}/v1/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_START_SECONDS) as response:
                response.read()
        except OSError as error:
            raise WorkerError(f"{self.spec.name} does not answer: {error}") from error

    def processor_seconds(self) -> float | None:
        """Processor time of all its processes so far; None where the system does not say."""
        worked = [int(stat[11]) + int(stat[12]) for stat in self._processes()]  # user, system
        return sum(worked) / os.sysconf("SC_CLK_TCK") if worked else None

    def _processes(self) -> Iterator[list[str]]:
        """What /proc says of each process of the group that has not ended, from its state on."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = path.read_text(encoding="utf-8", errors="replace")
            except OSError:  # it has just ended
                continue
            stat = text.rpartition(")")[2].split()
            if int(stat[2]) == self._process.pid and stat[0] != "Z":
                yield stat

    def stop(self) -> None:
        """Suspend every thread of every process."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End the group and wait until its memory is free again."""
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        end = time.monotonic() + _END_SECONDS
        while any(self._processes()) and time.monotonic() < end:
            time.sleep(0.01)
        self._log.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        told = [line for line in lines if "Error" in line or line.startswith("error")]
        reason = (told or lines or ["it said nothing"])[-1]
        advice = f"; {self.spec.advice}" if self.spec.advice else ""
        return f"{reason[:300]} (status {self._process.returncode}){advice}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
