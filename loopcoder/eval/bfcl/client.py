"""Our side of the bridge to bfcl-eval: its environment, its process, its answers as values."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loopcoder.errors import EvaluationError
from loopcoder.eval.environments import Environment

Mode = Literal["prompt", "tools"]

# What the prompts, the decoder and the checker import. All of bfcl-eval's dependencies are the
# clients of every vendor, and torch: several gigabytes that are not used here.
_NEEDED = (
    "filelock==3.20.0",
    "tenacity>=8.5.0",
    "tree_sitter==0.21.3",
    "tree-sitter-java==0.21.0",
    "tree-sitter-javascript==0.21.4",
)
BFCL = Environment(
    name="bfcl", requirements=_NEEDED, alone=("bfcl-eval==2026.3.23",), module="bfcl_eval"
)
BFCL_V3 = Environment(  # the last release with the questions and the averages of v3
    name="bfcl-v3", requirements=_NEEDED, alone=("bfcl-eval==2025.7.9",), module="bfcl_eval"
)
VERSIONS: Mapping[str, Environment] = {"v4": BFCL, "v3": BFCL_V3}

_PROGRAM = Path(__file__).with_name("bridge.py")
_LOG = "stderr"


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question: its turns, the same with the published prompt, and the functions as tools."""

    id: str
    category: str
    messages: tuple[dict[str, str], ...]
    prompt: tuple[dict[str, str], ...]
    tools: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the checker says.

    `reason` is "passed", "no_call" (nothing it can read as calls), "needless_call", "timeout",
    "checker_raised", or the error's name in bfcl-eval.
    """

    valid: bool
    reason: str
    detail: str


class Bridge:
    """A process of bfcl-eval's environment that is asked and answers. Safe from several threads.

    `data` is a directory with question files in the package's own format and `possible_answer/`
    beside them, in place of the package's. Every method raises `EvaluationError` where the process
    ends, says nothing for `patience` seconds, or reports an error of its own; the next call starts
    it anew.
    """

    def __init__(self, python: Path, data: Path | None = None, *, patience: float = 120.0) -> None:
        self.python, self.data, self.patience = python, data, patience
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._stop: weakref.finalize[Any, Any] | None = None

    def __enter__(self) -> "Bridge":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; using the bridge again starts another."""
        if self._stop is not None:
            self._stop()
        self._process = self._directory = self._stop = None

    def categories(self, names: Sequence[str]) -> tuple[str, ...]:
        """The single-turn categories that names of categories or collections stand for, in order.

        Raises `EvaluationError` for a name that bfcl-eval does not have.
        """
        groups: dict[str, list[str]] = self._ask({"op": "groups"})["groups"]
        known = groups["single_turn"]
        wanted: set[str] = set()
        for name in names:
            found = [name] if name in known else groups.get(name)
            if not found:
                collections = [name for name, members in groups.items() if members]
                raise EvaluationError(
                    f"bfcl has no single-turn category {name!r}; there are {', '.join(known)}, and "
                    f"the collections {', '.join(collections)}"
                )
            wanted.update(found)
        return tuple(category for category in known if category in wanted)

    def questions(self, category: str) -> tuple[Question, ...]:
        """A category's questions, in order."""
        rows = self._ask({"op": "entries", "category": category})
        return tuple(
            Question(
                id=row["id"],
                category=category,
                messages=tuple(row["messages"]),
                prompt=tuple(row["prompt"]),
                tools=tuple(row["tools"]),
            )
            for row in rows
        )

    def check(self, id: str, mode: Mode, answer: str | Sequence[Mapping[str, str]]) -> Checked:
        """Whether a text, or in mode "tools" calls as {name: JSON of the arguments}, is right."""
        request = {"op": "check", "id": id, "mode": mode}
        answer = answer if isinstance(answer, str) else [dict(call) for call in answer]
        return Checked(**self._ask({**request, "answer": answer}))

    def _ask(self, request: dict[str, Any]) -> Any:
        with self._lock:
            try:
                reply = json.loads(self._exchange(json.dumps(request).encode() + b"\n"))
            except (OSError, EOFError, ValueError) as error:  # OSError: silence, too
                last = self._last_words()
                self.close()
                raise EvaluationError(
                    f"bfcl-eval's process ({self.python}) gave no answer to {request['op']!r}: "
                    f"{error}{last}; run it again, or make its environment anew"
                ) from error
            except BaseException:
                self.close()  # the answer may still come, and would be taken for the next one
                raise
        if "error" in reply:
            raise EvaluationError(f"bfcl-eval refused {request['op']!r}: {reply['error']}")
        return reply["ok"]

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        command = [str(self.python), "-I", str(_PROGRAM)]
        if self.data is not None:
            command.append(str(self.data))
        # bfcl-eval makes directories for its results when it is imported.
        directory = Path(tempfile.mkdtemp(prefix="loopcoder-bfcl-"))
        environment = {**os.environ, "BFCL_PROJECT_ROOT": str(directory)}
        with (directory / _LOG).open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                bufsize=0,
            )
        self._process, self._directory = process, directory
        self._stop = weakref.finalize(self, _end, process, directory)
        return process

    def _exchange(self, line: bytes) -> bytes:
        """One line there, one line back."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        there, back = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(there, False)
        deadline = time.monotonic() + self.patience
        reply = bytearray()
        while not reply.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            readable, writable, _ = select.select([back], [there] if line else [], [], left)
            if writable:
                line = _written(there, line)
            elif readable:
                chunk = os.read(back, 1 << 20)
                if not chunk:
                    raise EOFError(f"it ended with status {process.wait(timeout=5)}")
                reply += chunk
            else:
                raise TimeoutError(f"silent for {self.patience:g} s")
        return bytes(reply)

    def _last_words(self) -> str:
        if self._directory is None:
            return ""
        log = (self._directory / _LOG).read_text(encoding="utf-8", errors="replace")
        lines = log.strip().splitlines()
        return f" ({lines[-1].strip()})" if lines else ""


def _written(pipe: int, line: bytes) -> bytes:
    """What is left to write; nothing where nobody reads, for its end says more."""
    try:
        return line[os.write(pipe, line) :]
    except BrokenPipeError:
        return b""


def _end(process: subprocess.Popen[bytes], directory: Path) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    shutil.rmtree(directory, ignore_errors=True)
