"""What the reference gives on a problem's inputs, found out once for all answers to it."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from loopcoder.errors import EvaluationError
from loopcoder.eval.judge.process import AnswerError, Reply, candidate
from loopcoder.eval.problems.types import CodeProblem, Inputs
from loopcoder.eval.sandbox.types import Limits, Sandbox

CALL_SECONDS = 60.0
RUN_SECONDS = 600.0


@dataclass(frozen=True)
class Expected:
    """Values and seconds, in the order of the problem's `base` and `plus` inputs."""

    base: tuple[Reply, ...]
    plus: tuple[Reply, ...]


class References:
    """Keeps the expected values of a run's problems. One for a run, shared by all its answers."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Inputs, Expected]] = {}
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def expected(self, problem: CodeProblem, sandbox: Sandbox, limits: Limits) -> Expected:
        """Run the reference, in a process of its own, unless that was done.

        Raises `EvaluationError` where the reference fails.
        """
        assert isinstance(problem.tests, Inputs)
        key = (problem.id, problem.reference)
        async with self._locks[key]:
            tests, expected = self._known.get(key, (None, None))
            if expected is None or (tests is not problem.tests and tests != problem.tests):
                expected = await _run(problem, problem.tests, sandbox, limits)
                self._known[key] = (problem.tests, expected)
        return expected


async def _run(problem: CodeProblem, tests: Inputs, sandbox: Sandbox, limits: Limits) -> Expected:
    inputs: tuple[tuple[Any, ...], ...] = (*tests.base, *tests.plus)
    try:
        async with candidate(
            sandbox, problem.reference, problem.entry_point, limits, RUN_SECONDS
        ) as reference:
            replies = tuple([await reference.call(given, CALL_SECONDS) for given in inputs])
    except AnswerError as fault:
        raise EvaluationError(
            f"the reference of {problem.id} fails ({fault.reason}: {fault.detail}), so that no "
            "answer to it can be judged; mend the benchmark's file, or raise the limits"
        ) from fault
    return Expected(replies[: len(tests.base)], replies[len(tests.base) :])
