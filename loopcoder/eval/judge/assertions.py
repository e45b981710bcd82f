"""Judge by a test program: the tests in one process, the candidate in another, values between."""

import asyncio
from collections.abc import Mapping

from loopcoder.errors import EvaluationError
from loopcoder.eval.judge.process import (
    AnswerError,
    Candidate,
    Channel,
    candidate,
    process,
    raised_fault,
)
from loopcoder.eval.judge.values import Tree
from loopcoder.eval.problems.types import Assertions, CodeProblem
from loopcoder.eval.sandbox.types import Limits, Sandbox


async def run_assertions(
    problem: CodeProblem,
    tests: Assertions,
    code: str,
    sandbox: Sandbox,
    limits: Limits,
    seconds: float,
) -> None:
    """Run the tests. Raises `AnswerError` where they fail or are not done after `seconds`.

    Raises `EvaluationError` where the reference or the tests' own setup raises, or where the tests
    hand over objects of their own classes.
    """
    program = {
        "reference": problem.reference,
        "setup": tests.setup,
        "source": tests.source,
        "entry": problem.entry_point,
    }
    async with (
        candidate(sandbox, code, problem.entry_point, limits, 2 * seconds) as answer,
        process(sandbox, "tester", limits, 2 * seconds) as channel,
    ):
        await channel.send(program)
        end, last = await _relay(channel, answer, seconds)
    if "broken" in end:
        raise EvaluationError(
            f"the tests of {problem.id} cannot be run ({end['broken']['raised']}: "
            f"{end['broken']['message']}); leave that problem out, or mend it"
        )
    if "failed" in end:
        if "raised" in last:
            raise raised_fault(last)
        what = end["failed"]
        raise AnswerError("wrong", f"line {what['line']}: {what['raised']} {what['message']}"[:200])


async def _relay(
    channel: Channel, answer: Candidate, seconds: float
) -> tuple[Mapping[str, Tree], Mapping[str, Tree]]:
    """Carry calls and replies until the tests end. Gives how they did, and the last reply."""
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    last: Mapping[str, Tree] = {}
    while "args" in (message := await channel.receive(max(0.0, end - clock()))):
        last = await answer.relay(message, max(0.0, end - clock()))
        await channel.send(last)
    return message, last
