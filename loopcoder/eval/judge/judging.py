"""Judge a program: by the reference's values on the same inputs, or by a test program."""

from loopcoder.errors import EvaluationError
from loopcoder.eval.judge.assertions import run_assertions
from loopcoder.eval.judge.oracles import Comparison
from loopcoder.eval.judge.process import USUAL, AnswerError, Reply, brief, candidate
from loopcoder.eval.judge.references import References
from loopcoder.eval.judge.verdict import Verdict
from loopcoder.eval.problems.types import CodeProblem, Inputs
from loopcoder.eval.sandbox.types import Limits, Sandbox

# EvalPlus's limits: a call may take this times what the reference took, a run a minute at most.
REFERENCE_TIMES = 4.0
RUN_SECONDS = 60.0
SPARE_SECONDS = 0.25  # for a call's messages, which are not counted as its time


async def judge(
    problem: CodeProblem,
    code: str,
    sandbox: Sandbox,
    *,
    references: References | None = None,
    limits: Limits = USUAL,
    min_seconds: float = 1.0,
    test_seconds: float = 10.0,
) -> Verdict:
    """Whether `code`, a whole program, solves the problem.

    `references` keeps what the reference gave for the next answer to the same problem. A call may
    take `min_seconds`, or 4 times what the reference took if that is more; a test program may take
    `test_seconds` in all. `limits` holds for each process (its `seconds` are not used). Raises
    `EvaluationError` for a failure that is not the candidate's: the answer is then unscored.
    """
    if not code.strip():
        return Verdict(base=False, plus=False, reason="empty", detail="no code")
    tests = problem.tests
    base = False
    try:
        if not isinstance(tests, Inputs):
            await run_assertions(problem, tests, code, sandbox, limits, test_seconds)
        else:
            expected = await (references or References()).expected(problem, sandbox, limits)
            run = _Run(problem, tests, code, sandbox, limits, min_seconds)
            await run.check("base", tests.base, expected.base)
            base = True
            await run.check("plus", tests.plus, expected.plus)
    except AnswerError as fault:
        detail = " ".join(fault.detail.split())
        return Verdict(base=base, plus=False, reason=fault.reason, detail=detail)
    return Verdict(base=True, plus=True, reason="passed")


class _Run:
    """One answer to a problem whose tests are inputs."""

    def __init__(
        self,
        problem: CodeProblem,
        tests: Inputs,
        code: str,
        sandbox: Sandbox,
        limits: Limits,
        min_seconds: float,
    ) -> None:
        self._problem = problem
        self._tests = tests
        self._code = code
        self._sandbox = sandbox
        self._limits = limits
        self._min_seconds = min_seconds

    async def check(
        self, name: str, inputs: tuple[tuple[object, ...], ...], expected: tuple[Reply, ...]
    ) -> None:
        """Call it on all inputs, in a fresh process; the first failure raises `AnswerError`."""
        try:
            await self._check(name, inputs, expected)
        except AnswerError as fault:
            if fault.reason != "timeout":
                raise
            # Once more: a busy machine is late with a right answer, an endless one is late again.
            await self._check(name, inputs, expected)

    async def _check(
        self, name: str, inputs: tuple[tuple[object, ...], ...], expected: tuple[Reply, ...]
    ) -> None:
        if not inputs:
            return
        allowed = [max(self._min_seconds, REFERENCE_TIMES * reply.seconds) for reply in expected]
        messages = [SPARE_SECONDS + REFERENCE_TIMES * reply.messages for reply in expected]
        left = min(RUN_SECONDS, sum(allowed)) + 1.0
        compare = self._comparison()
        entry, life = self._problem.entry_point, left + sum(messages)
        async with candidate(self._sandbox, self._code, entry, self._limits, life) as program:
            for index, arguments in enumerate(inputs):
                seconds = min(allowed[index], left)
                try:
                    reply = await program.call(arguments, seconds + messages[index])
                    if reply.seconds > seconds:
                        raise AnswerError("timeout", f"took {reply.seconds:.3g} s")
                    if not compare.accepts(arguments, reply.value, expected[index].value):
                        shown = f"gave {brief(reply.value)}, not {brief(expected[index].value)}"
                        raise AnswerError("wrong", shown)
                except AnswerError as fault:
                    detail = f"{name} input {index}: {fault.detail}"
                    raise AnswerError(fault.reason, detail) from fault
                # What the program says, unless it took longer than its messages account for.
                left -= max(reply.seconds, reply.seconds + reply.messages - messages[index])

    def _comparison(self) -> Comparison:
        try:
            return Comparison(self._tests.atol, self._tests.oracle)
        except ValueError as error:
            raise EvaluationError(f"{self._problem.id}: {error}") from error
