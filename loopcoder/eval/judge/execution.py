"""Judge answers about what a function gives (CRUXEval), by evaluating and running, not by text."""

import ast
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Literal

from loopcoder.errors import EvaluationError
from loopcoder.eval.judge.process import USUAL, AnswerError, brief, candidate
from loopcoder.eval.judge.verdict import Verdict
from loopcoder.eval.problems.types import ExecutionProblem
from loopcoder.eval.sandbox.types import Limits, Sandbox

Mode = Literal["input", "output"]

SECONDS = 3.0  # for evaluating an answer, and for running the function on it: CRUXEval's own limit


async def judge_execution(
    problem: ExecutionProblem,
    answer: str,
    sandbox: Sandbox,
    *,
    mode: Mode,
    limits: Limits = USUAL,
    seconds: float = SECONDS,
) -> Verdict:
    """Whether the answer is right: an input that gives the problem's output, or its output.

    An input is a call of f or its arguments alone, an output an expression in which f is unknown;
    both must give plain values, equal by `==`. Raises `EvaluationError` where it is not the
    answer's fault that nothing can be said.
    """
    if not answer.strip():
        return Verdict(base=False, plus=False, reason="empty", detail="no answer")
    expected = _literal(problem)
    process = _Processes(problem, sandbox, limits, seconds)
    try:
        if mode == "output":
            got = await process.evaluate(answer, "value")
        elif _takes_functions(problem):
            got = await process.evaluate(answer, "result")
        else:
            got = await process.run(await process.evaluate(answer, "arguments"))
        if not _same(got, expected):
            raise AnswerError("wrong", f"{brief(got)}, not {brief(expected)}")
    except AnswerError as fault:
        detail = " ".join(fault.detail.split())
        return Verdict(base=False, plus=False, reason=fault.reason, detail=detail)
    return Verdict(base=True, plus=True, reason="passed")


class _Processes:
    """The answer's expression in one process, the function on its values in another."""

    def __init__(
        self, problem: ExecutionProblem, sandbox: Sandbox, limits: Limits, seconds: float
    ) -> None:
        self._problem = problem
        self._sandbox = sandbox
        self._limits = limits
        self._seconds = seconds

    async def evaluate(self, text: str, want: str) -> Any:
        """What `expression.evaluate` gives, in the sandbox."""
        source = (resources.files("loopcoder.eval.judge") / "expression.py").read_text("utf-8")
        arguments = (text, want, self._problem.code)
        try:
            return await self._call(source, "evaluate", arguments, {})
        except AnswerError as fault:
            if fault.detail.startswith("SyntaxError"):
                raise AnswerError("syntax", fault.detail) from fault
            raise

    async def run(self, arguments: Any) -> Any:
        """What f gives on what a process that ran the answer says are its arguments."""
        try:
            args, named = arguments
            args, named = list(args), {str(name): value for name, value in dict(named).items()}
        except (TypeError, ValueError) as error:
            raise AnswerError("died", "a broken reply") from error
        return await self._call(self._problem.code, "f", args, named)

    async def _call(
        self, code: str, entry: str, args: Sequence[Any], named: Mapping[str, Any]
    ) -> Any:
        async with candidate(self._sandbox, code, entry, self._limits, self._seconds) as function:
            return (await function.call(args, self._seconds, named)).value


def _takes_functions(problem: ExecutionProblem) -> bool:
    """Whether its input holds a function, which does not travel: two of CRUXEval's 800.

    Its answers run in the process of f itself, where they could also cheat.
    """
    tree = ast.parse(f"f({problem.input})")
    return any(isinstance(node, ast.Lambda) for node in ast.walk(tree))


def _literal(problem: ExecutionProblem) -> Any:
    try:
        return ast.literal_eval(problem.output)
    except (ValueError, SyntaxError) as error:
        raise EvaluationError(
            f"the output of {problem.id} is {problem.output!r:.80}; expected a literal"
        ) from error


def _same(got: Any, expected: Any) -> bool:
    try:
        return bool(got == expected)
    except (ArithmeticError, TypeError, ValueError):
        return False
