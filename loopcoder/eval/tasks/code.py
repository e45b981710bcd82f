"""The benchmarks as inspect-ai tasks: `inspect eval loopcoder/humaneval_plus --model ...`.

Each takes `data` (a directory with its file; the cache if None), `prompt` (auto: by chat for a
model with a chat template, else by completion) and `unsafe_local` (no sandbox: the model's code
runs as the user). Raises `EvaluationError` where the file or the sandbox is missing.
"""

from collections.abc import Callable
from typing import Literal

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig

from loopcoder.errors import EvaluationError
from loopcoder.eval.problems.types import CodeProblem, ExecutionProblem
from loopcoder.eval.tasks.ask import Choice, ask
from loopcoder.eval.tasks.executed import executed
from loopcoder.eval.tasks.load import problems, provenance

Problem = CodeProblem | ExecutionProblem

PROGRAM_TOKENS = 768  # EvalPlus's limit
GAP_TOKENS = 512
VALUE_TOKENS = 128
THOUGHT_TOKENS = 1024
MBPP_TEST = range(11, 511)  # the ids of MBPP's test split; 1 to 10 are for few-shot prompts


@task
def humaneval(data: str | None = None, prompt: Choice = "auto", unsafe_local: bool = False) -> Task:
    """HumanEval: 164 functions from signature and docstring, by its own assertions."""
    return _program("humaneval", data, prompt, unsafe_local)


@task
def humaneval_plus(
    data: str | None = None, prompt: Choice = "auto", unsafe_local: bool = False
) -> Task:
    """HumanEval+: the same functions on many more inputs (EvalPlus)."""
    return _program("humaneval_plus", data, prompt, unsafe_local)


@task
def mbpp(data: str | None = None, prompt: Choice = "auto", unsafe_local: bool = False) -> Task:
    """MBPP: the 500 functions of its test split (ids 11 to 510), by its own assertions."""
    return _program("mbpp", data, prompt, unsafe_local, _tested)


@task
def mbpp_sanitized(
    data: str | None = None, prompt: Choice = "auto", unsafe_local: bool = False
) -> Task:
    """MBPP's test split, of the file that its authors went over by hand."""
    return _program("mbpp_sanitized", data, prompt, unsafe_local, _tested)


@task
def mbpp_plus(data: str | None = None, prompt: Choice = "auto", unsafe_local: bool = False) -> Task:
    """MBPP+: 378 functions from a sentence and an example, on many inputs (EvalPlus)."""
    return _program("mbpp_plus", data, prompt, unsafe_local)


@task
def infilling_single_line(
    data: str | None = None, prompt: Choice = "auto", unsafe_local: bool = False
) -> Task:
    """HumanEval with one line to fill in, between what stands before and after it."""
    return _gap("infilling_single_line", data, prompt, unsafe_local)


@task
def infilling_multi_line(
    data: str | None = None, prompt: Choice = "auto", unsafe_local: bool = False
) -> Task:
    """HumanEval with several lines to fill in."""
    return _gap("infilling_multi_line", data, prompt, unsafe_local)


@task
def infilling_random_span(
    data: str | None = None, prompt: Choice = "auto", unsafe_local: bool = False
) -> Task:
    """HumanEval with a span to fill in that may begin and end within a line."""
    return _gap("infilling_random_span", data, prompt, unsafe_local)


@task
def infilling_random_span_light(
    data: str | None = None, prompt: Choice = "auto", unsafe_local: bool = False
) -> Task:
    """One such span for each of HumanEval's functions."""
    return _gap("infilling_random_span_light", data, prompt, unsafe_local)


@task
def cruxeval_input(
    data: str | None = None,
    prompt: Choice = "auto",
    reasoning: bool = False,
    unsafe_local: bool = False,
) -> Task:
    """CRUXEval-I: which arguments give this value? `reasoning`: written out before the answer."""
    return _prediction("input", data, prompt, reasoning, unsafe_local)


@task
def cruxeval_output(
    data: str | None = None,
    prompt: Choice = "auto",
    reasoning: bool = False,
    unsafe_local: bool = False,
) -> Task:
    """CRUXEval-O: which value do these arguments give? `reasoning`: as for cruxeval_input."""
    return _prediction("output", data, prompt, reasoning, unsafe_local)


def _tested(problem: Problem) -> bool:
    return int(problem.id.partition("/")[2]) in MBPP_TEST


def _program(
    benchmark: str,
    data: str | None,
    prompt: Choice,
    unsafe_local: bool,
    wanted: Callable[[Problem], bool] | None = None,
) -> Task:
    return _task(benchmark, data, wanted, PROGRAM_TOKENS, prompt=prompt, unsafe_local=unsafe_local)


def _gap(benchmark: str, data: str | None, prompt: Choice, unsafe_local: bool) -> Task:
    if prompt == "chat":
        raise EvaluationError(
            f"{benchmark} has no form for chat: the model goes on between two texts; leave the "
            "prompt's form out"
        )
    return _task(benchmark, data, None, GAP_TOKENS, unsafe_local=unsafe_local)


def _prediction(
    mode: Literal["input", "output"],
    data: str | None,
    prompt: Choice,
    reasoning: bool,
    unsafe_local: bool,
) -> Task:
    return _task(
        "cruxeval",
        data,
        None,
        THOUGHT_TOKENS if reasoning else VALUE_TOKENS,
        prompt=prompt,
        mode=mode,
        reasoning=reasoning,
        unsafe_local=unsafe_local,
    )


def _task(
    benchmark: str,
    data: str | None,
    wanted: Callable[[Problem], bool] | None,
    max_tokens: int,
    *,
    prompt: Choice = "auto",
    mode: Literal["input", "output"] | None = None,
    reasoning: bool = False,
    unsafe_local: bool = False,
) -> Task:
    """Greedy, one answer, unless the run says otherwise."""
    asked = [each for each in problems(benchmark, data).values() if not wanted or wanted(each)]
    return Task(
        dataset=MemoryDataset([_sample(each) for each in asked], name=benchmark),
        solver=ask(benchmark, data, prompt, mode, reasoning),
        scorer=executed(benchmark, data, mode, unsafe_local),
        config=GenerateConfig(temperature=0.0, max_tokens=max_tokens),
        metadata=provenance(benchmark, data),
    )


def _sample(problem: Problem) -> Sample:
    """What a log shows of a problem; everything else stays with the reader, by id."""
    text = problem.prompt if isinstance(problem, CodeProblem) else problem.code
    return Sample(id=problem.id, input=text, metadata={"function": function(problem)})


def function(problem: Problem) -> str:
    """What the problem is about: all gaps of one function have it in common (standard errors)."""
    parts = problem.id.split("/")
    return "/".join(parts[1:3]) if len(parts) > 3 else problem.id
