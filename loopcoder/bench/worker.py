"""The worker's side: reads commands, runs them on one engine, answers.

Runs in whatever Python the engine is installed in, so only the standard library is imported here.
Standard output belongs to the answers; what an engine prints goes to standard error.
"""

import json
import os
import sys
from importlib import import_module
from typing import Any, Protocol, TextIO


class NotInstalledError(Exception):
    """The engine cannot be imported; the message says how to get it."""


class Runner(Protocol):
    """An engine with at most one model. Arguments are those of `plan.Job`, `Workload`, `Case`."""

    def load(self, job: dict[str, Any]) -> dict[str, Any]:
        """Make the model. Facts for the report: "version", "weight_bytes" read in a step, ..."""
        ...

    def prepare(self, key: str, case: dict[str, Any], work: dict[str, Any]) -> None:
        """Get a case ready: for decoding, read its prompts."""
        ...

    def measure(self, key: str, number: int) -> float:
        """Seconds of measurement `number` of a prepared case; prompts are drawn from `number`."""
        ...


RUNNERS = {
    "loopcoder": "loopcoder.bench.ours",
    "transformers": "loopcoder.bench.peers.transformers",
    "vllm": "loopcoder.bench.peers.vllm",
    "llama.cpp": "loopcoder.bench.peers.llamacpp",
}


def main(engine: str) -> None:
    """Answer commands from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        runner = import_module(RUNNERS[engine]).new_runner()
    except NotInstalledError as error:
        sys.stdin.readline()
        _say(answers, {"missing": str(error)})
        return
    for line in sys.stdin:
        command = json.loads(line)
        try:
            result = getattr(runner, command.pop("do"))(**command)
        except Exception as error:  # whatever it is, the parent must hear of it
            reason = str(error).strip() or type(error).__name__
            _say(answers, {"error": reason.splitlines()[0]})
            raise
        _say(answers, {"ok": result})


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def needed(name: str, advice: str) -> Any:
    """The module `name` of the engine, or `NotInstalledError`."""
    try:
        return import_module(name)
    except ImportError as error:
        raise NotInstalledError(f"{name} is not installed ({error}); {advice}") from error
