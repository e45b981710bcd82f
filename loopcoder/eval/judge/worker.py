"""The candidate's process: runs inside the sandbox, on the standard library and `values` alone.

It is told the code and the arguments of one call at a time, never a test or an expected value, so
whatever the code does to this process it can only change what its own function returned. One line
of JSON in, one out, on descriptors that were set aside before the code ran:
`{"code", "entry"}`, then `{"call", "args", "kwargs"}` again and again; a reply repeats `call`.
"""

import builtins
import io
import os
import sys
import time
import types
from typing import Any, BinaryIO

from loopcoder.eval.judge.values import Tree, ValuesError, dump, load, pack, unpack

MESSAGE = 200  # characters kept of an exception's text


class Lines:
    """Copies of standard input and output to talk on; the code gets /dev/null."""

    def __init__(self) -> None:
        self._incoming: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._outgoing: BinaryIO = os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # printing never fails, whatever the locale
                stream.reconfigure(encoding="utf-8", errors="replace")

    def send(self, message: dict[str, Tree]) -> None:
        """Write one line."""
        self._outgoing.write(dump(message) + b"\n")
        self._outgoing.flush()

    def receive(self) -> dict[str, Tree]:
        """The next line. Raises `SystemExit` where the other side has gone."""
        line = self._incoming.readline()
        if not line:
            raise SystemExit(0)
        return load(line)


def raised(error: BaseException) -> dict[str, Tree]:
    """An exception as data: its class, the nearest builtin one, and its text."""
    bases = (base for base in type(error).__mro__ if base is getattr(builtins, base.__name__, 0))
    try:
        text = str(error)[:MESSAGE]
    except BaseException:
        text = ""
    return {"raised": type(error).__name__[:MESSAGE], "base": next(bases).__name__, "message": text}


def prepare(code: str, entry: str) -> tuple[Any, dict[str, Tree]]:
    """Run the code as a module of its own. Gives its entry point, and what to say of it."""
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module
    try:
        program = compile(code, "candidate.py", "exec", dont_inherit=True)
    except BaseException as error:
        return None, {"syntax": f"{type(error).__name__}: {error}"[:MESSAGE]}
    try:
        exec(program, module.__dict__)
    except BaseException as error:
        return None, raised(error)
    if entry not in module.__dict__:
        return None, {"missing": entry}
    return module.__dict__[entry], {"ready": True}


def answer(function: Any, request: dict[str, Tree]) -> dict[str, Tree]:
    """What one call gives: a value and the seconds it took, or what was raised."""
    args, kwargs = unpack(request["args"]), unpack(request["kwargs"])
    start = time.perf_counter()
    try:
        value = function(*args, **kwargs)
    except BaseException as error:
        return raised(error)
    seconds = time.perf_counter() - start
    try:
        return {"value": pack(value), "seconds": seconds}
    except ValuesError as error:
        return {"unfit": str(error)}
    except BaseException as error:  # an iterator that raises when it is read
        return raised(error)


def serve() -> None:
    """Say hello, take the code, then answer calls until the other side has gone."""
    lines = Lines()
    lines.send({"hello": True})
    first = lines.receive()
    function, reply = prepare(first["code"], first["entry"])
    lines.send(reply)
    while "ready" in reply:
        request = lines.receive()
        lines.send({**answer(function, request), "call": request["call"]})
