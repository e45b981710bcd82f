"""The tests' process: runs a test program against a function that lives in another process.

Inside the sandbox, on the standard library and `values` alone. One line in: the program's parts.
Then `{"args", "kwargs"}` out for each call of the function, its reply in, and in the end one of
`{"passed"}`, `{"failed"}` (what the test raised) or `{"broken"}` (setup or reference raised, or an
argument is no plain value).
"""

import builtins
import sys
import types
from typing import Any

from loopcoder.eval.judge.values import Tree, ValuesError, pack, unpack
from loopcoder.eval.judge.worker import Lines, raised


class CandidateError(Exception):
    """The candidate raised something that is no builtin exception."""


class NotPlainError(BaseException):
    """The tests hand over what does not travel; no `except Exception` of theirs hides it."""


def candidate(lines: Lines) -> Any:
    """A function that asks the other process."""

    def call(*args: object, **kwargs: object) -> Any:
        try:
            request = {"args": pack(list(args), plain=True), "kwargs": pack(kwargs, plain=True)}
        except ValuesError as error:
            raise NotPlainError(f"the candidate cannot be given {error}") from error
        lines.send(request)
        reply = lines.receive()
        if "raised" in reply:
            raise _exception(reply)
        return unpack(reply["value"])

    return call


def _exception(reply: dict[str, Tree]) -> Exception:
    kind = getattr(builtins, reply["base"], None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(reply["message"])
        except TypeError:  # UnicodeDecodeError and its like want more than a text
            pass
    return CandidateError(f"{reply['raised']}: {reply['message']}")


def run(program: dict[str, Tree], function: Any) -> dict[str, Tree]:
    """Run reference, setup and test in one namespace, the entry point being `function`."""
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    try:
        exec(compile(program["reference"], "reference.py", "exec"), module.__dict__)
        exec(compile(program["setup"], "setup.py", "exec"), module.__dict__)
        test = compile(program["source"], "test.py", "exec")
    except BaseException as error:
        return {"broken": raised(error)}
    module.__dict__[program["entry"]] = function
    try:
        exec(test, module.__dict__)
    except NotPlainError as error:
        return {"broken": raised(error)}
    except BaseException as error:
        return {"failed": {**raised(error), "line": _line(error)}}
    return {"passed": True}


def _line(error: BaseException) -> int:
    """The line of the test that raised, 0 where there is none."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "test.py":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def serve() -> None:
    """Take the program, run it, say how it ended."""
    lines = Lines()
    lines.send({"hello": True})
    lines.send(run(lines.receive(), candidate(lines)))
