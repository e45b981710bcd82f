"""The scorer: the answer's program or value, run where it can do no harm."""

from typing import Literal

import anyio
from inspect_ai.scorer import Score, Scorer, Target, accuracy, scorer, stderr
from inspect_ai.solver import TaskState

from loopcoder.eval import sandbox as sandboxes
from loopcoder.eval.answers import answered, completed, filled, predicted
from loopcoder.eval.judge import References, Verdict, judge, judge_execution
from loopcoder.eval.problems.types import CodeProblem, ExecutionProblem
from loopcoder.eval.sandbox.types import Sandbox
from loopcoder.eval.tasks.ask import STYLE
from loopcoder.eval.tasks.load import problems
from loopcoder.eval.tasks.stops import stops

# What EvalPlus's own environment has, and some answers import.
PACKAGES = ("numpy",)


@scorer(metrics=[accuracy(), stderr()])
def executed(
    benchmark: str,
    data: str | None = None,
    mode: Literal["input", "output"] | None = None,
    unsafe_local: bool = False,
) -> Scorer:
    """1.0 where everything passes (of EvalPlus's files: base and plus), else 0.0.

    The score's answer is the program (or value) taken from the text; its metadata says `base`,
    `plus`, `reason` and `detail`. Raises `EvaluationError` where nothing could be run: such an
    answer is unscored, not wrong.
    """
    loaded = problems(benchmark, data)
    sandbox = _sandbox(unsafe_local)
    references = References()
    # More at once than there are cores, and calls run out of time for want of a core.
    core = anyio.Semaphore(sandboxes.cores())

    async def score(state: TaskState, target: Target) -> Score:
        problem = loaded[str(state.sample_id)]
        text = state.output.completion
        if isinstance(problem, ExecutionProblem):
            assert mode is not None, "an execution problem asks for the input or the output"
            answer = predicted(text, mode)
            async with core:
                verdict = await judge_execution(problem, answer, sandbox, mode=mode)
        else:
            answer = program(problem, benchmark, text, str(state.metadata.get(STYLE)))
            async with core:
                verdict = await judge(problem, answer, sandbox, references=references)
        return _score(answer, verdict)

    return score


def _sandbox(unsafe_local: bool) -> Sandbox:
    return sandboxes.unsafe_local() if unsafe_local else sandboxes.bubblewrap(packages=PACKAGES)


def program(problem: CodeProblem, benchmark: str, text: str, style: str) -> str:
    """The program that an answer means, by the form it was asked for in."""
    if problem.suffix is not None:
        return filled(problem, text)
    if style == "chat":
        return answered(problem, text)
    return completed(problem, text, stops(benchmark))


def _score(answer: str, verdict: Verdict) -> Score:
    return Score(
        value=float(verdict.base and verdict.plus),
        answer=answer,
        explanation=f"{verdict.reason}: {verdict.detail}" if verdict.detail else verdict.reason,
        metadata={
            "base": verdict.base,
            "plus": verdict.plus,
            "reason": verdict.reason,
            "detail": verdict.detail,
        },
    )
