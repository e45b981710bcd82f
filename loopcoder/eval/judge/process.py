"""The judge's processes: a worker that holds one program, spoken with in lines of JSON."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from loopcoder.errors import EvaluationError
from loopcoder.eval.judge.values import Tree, ValuesError, dump, load, pack, unpack
from loopcoder.eval.judge.verdict import Reason
from loopcoder.eval.sandbox.types import EndedError, Limits, Outcome, Sandbox, Session

START_SECONDS = 30.0  # for Python to start: a busy machine is not the candidate's fault
LOAD_SECONDS = 10.0  # for a program's top level
LINE_BYTES = 64 << 20  # above the largest reply that `values.pack` makes

# EvalPlus's memory, with which the references of its benchmarks were run.
USUAL = Limits(memory_bytes=4 << 30)

# Each source becomes a module of its full name, so that its imports inside the sandbox find it.
_BOOT = """\
import sys, types
for name in {names!r}:
    module = sys.modules["loopcoder.eval.judge." + name] = types.ModuleType(name)
    with open(name + ".py") as file:
        exec(compile(file.read(), name + ".py", "exec"), module.__dict__)
module.serve()
"""


class AnswerError(Exception):
    """The candidate's own failure: what its verdict says."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Reply:
    """What a call gave: the value, its seconds by the worker's own clock, and those of messages."""

    value: Any
    seconds: float
    messages: float


class Channel:
    """Messages of one process. `receive` raises `AnswerError` for silence, an end or no message."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def send(self, message: Mapping[str, Tree]) -> None:
        """Write one message."""
        try:
            await self._session.send(dump(dict(message)))
        except EndedError as error:
            raise _ended(error.outcome) from error

    async def receive(self, seconds: float) -> dict[str, Tree]:
        """The next message, waited for that long."""
        try:
            return load(await self._session.receive(seconds))
        except TimeoutError as error:
            raise AnswerError("timeout", f"no answer in {seconds:.3g} s") from error
        except EndedError as error:
            raise _ended(error.outcome) from error
        except ValuesError as error:
            raise AnswerError("died", "a broken reply") from error


class Candidate:
    """A program that was run, and its entry point to call."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def call(
        self, arguments: Sequence[Any], seconds: float, named: Mapping[str, Any] = {}
    ) -> Reply:
        """Call it with copies of the arguments. Raises `AnswerError` where that gives no value."""
        request = {"args": pack(list(arguments)), "kwargs": pack(dict(named))}
        clock = asyncio.get_running_loop().time
        start = clock()
        reply, value = await self._ask(request, seconds)
        if "raised" in reply:
            raise raised_fault(reply)
        took = max(0.0, float(reply["seconds"]))
        return Reply(value, took, clock() - start - took)

    async def relay(self, request: Mapping[str, Tree], seconds: float) -> dict[str, Tree]:
        """The reply to packed arguments as it came, checked: a packed value, or what was raised."""
        reply, _ = await self._ask(request, seconds)
        return reply

    async def _ask(
        self, request: Mapping[str, Tree], seconds: float
    ) -> tuple[dict[str, Tree], Any]:
        number = secrets.token_hex(8)
        await self._channel.send({**request, "call": number})
        reply = await self._channel.receive(seconds)
        if reply.get("call") != number:
            raise AnswerError("died", "a reply that no call asked for")
        if "unfit" in reply:
            raise AnswerError("output", str(reply["unfit"])[:200])
        if _is_raised(reply):
            return reply, None
        if "value" not in reply or not isinstance(reply.get("seconds"), int | float):
            raise AnswerError("died", "a broken reply")
        try:
            return reply, unpack(reply["value"])
        except ValuesError as error:
            raise AnswerError("output", str(error)) from error


@asynccontextmanager
async def process(
    sandbox: Sandbox, script: str, limits: Limits, seconds: float
) -> AsyncIterator[Channel]:
    """A script of this package in the sandbox, its Python started; it lives for `seconds`.

    Raises `EvaluationError` where it does not start.
    """
    names = ["values", "worker"] if script == "worker" else ["values", "worker", script]
    package = resources.files("loopcoder.eval.judge")
    files = {f"{name}.py": (package / f"{name}.py").read_bytes() for name in names}
    argv = [sandbox.python, "-I", "-c", _BOOT.format(names=names)]
    limits = replace(
        limits,
        seconds=seconds + START_SECONDS,
        output_bytes=max(limits.output_bytes, LINE_BYTES),
    )
    async with sandbox.session(argv, files=files, limits=limits) as session:
        channel = Channel(session)
        try:
            await channel.receive(START_SECONDS)
        except AnswerError as error:
            outcome = await session.close()
            last = outcome.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise EvaluationError(
                f"Python does not start in the {sandbox.name} sandbox ({error.reason}; "
                f"{' '.join(last) or error.detail}); nothing was judged"
            ) from error
        yield channel


@asynccontextmanager
async def candidate(
    sandbox: Sandbox, code: str, entry: str, limits: Limits, seconds: float
) -> AsyncIterator[Candidate]:
    """The code, run, in a process that then lives for `seconds`. Raises `AnswerError`."""
    async with process(sandbox, "worker", limits, seconds + LOAD_SECONDS) as channel:
        await channel.send({"code": code, "entry": entry})
        reply = await channel.receive(LOAD_SECONDS)
        if "syntax" in reply:
            raise AnswerError("syntax", str(reply["syntax"])[:200])
        if "missing" in reply:
            raise AnswerError("missing", f"{entry} is not defined")
        if _is_raised(reply):
            raise raised_fault(reply)
        if "ready" not in reply:
            raise AnswerError("died", "a broken reply")
        yield Candidate(channel)


def raised_fault(reply: Mapping[str, Tree]) -> AnswerError:
    """The fault of a candidate that raised: memory where that is what ran out."""
    text = f"{reply['raised']}: {reply['message']}".replace("\n", " ")[:200]
    return AnswerError("memory" if reply["base"] == "MemoryError" else "raised", text)


def brief(value: object) -> str:
    """A value for a verdict's detail."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits has no short text
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_raised(reply: Mapping[str, Tree]) -> bool:
    return all(isinstance(reply.get(key), str) for key in ("raised", "base", "message"))


def _ended(outcome: Outcome) -> AnswerError:
    if outcome.stopped is None:
        return AnswerError("died", f"the process ended with status {outcome.returncode}")
    return AnswerError("timeout" if outcome.stopped == "time" else outcome.stopped)
