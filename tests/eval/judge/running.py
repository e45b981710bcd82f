"""The real sandbox for the judge's tests, made once."""

import asyncio
import functools
import shutil
from typing import Any

import pytest

from loopcoder.eval.judge import References, Verdict, judge
from loopcoder.eval.problems.types import Assertions, CodeProblem, Inputs
from loopcoder.eval.sandbox import bubblewrap
from loopcoder.eval.sandbox.types import Limits, Sandbox

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="no bubblewrap: apt install bubblewrap"
)

SMALL = Limits(memory_bytes=256 << 20)
REFERENCES = References()


@functools.cache
def sandbox() -> Sandbox:
    return bubblewrap()


def by_inputs(reference: str, *inputs: tuple[Any, ...], **fields: Any) -> CodeProblem:
    """A problem whose function is `f`."""
    return _problem(reference, Inputs(base=inputs, **fields))


def by_tests(reference: str, source: str, setup: str = "") -> CodeProblem:
    return _problem(reference, Assertions(source=source, setup=setup))


def _problem(reference: str, tests: Assertions | Inputs) -> CodeProblem:
    return CodeProblem(id="t", prompt="", entry_point="f", reference=reference, tests=tests)


def judged(problem: CodeProblem, code: str, **how: Any) -> Verdict:
    """A call may take 10 s unless `how` says otherwise: a busy machine fails no test."""
    how = {"limits": SMALL, "min_seconds": 10.0, "test_seconds": 60.0, **how}
    return asyncio.run(judge(problem, code, sandbox(), references=REFERENCES, **how))
