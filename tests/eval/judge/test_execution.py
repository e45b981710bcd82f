import asyncio

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.judge import judge_execution
from loopcoder.eval.problems.types import ExecutionProblem
from tests.eval.judge.running import SMALL, needs_bubblewrap, sandbox

pytestmark = [pytest.mark.slow, needs_bubblewrap]

PROBLEM = ExecutionProblem(
    id="sample_0",
    code="side = 3\ndef f(a, b=1):\n    return [a + b, str(a)]",
    input="1, 2",
    output="[3, '1']",
)


def reason_of(answer, mode, problem=PROBLEM, seconds=30.0):
    verdict = asyncio.run(
        judge_execution(problem, answer, sandbox(), mode=mode, limits=SMALL, seconds=seconds)
    )
    assert verdict.base is verdict.plus is (verdict.reason == "passed")
    return verdict.reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("[3, '1']", "passed"),
        ("[1 + 2, str(1)]", "passed"),
        ("[3, 1]", "wrong"),
        ("f(1, 2)", "raised"),
        ("[3, '1'", "syntax"),
        ("", "empty"),
        ("type('L', (list,), {'__eq__': lambda *_: True})()", "wrong"),
        ("__import__('os')._exit(0)", "died"),
        ("(lambda: 1)", "wrong"),
        ("(" * 5000, "syntax"),
    ],
)
def test_outputs(answer, reason):
    assert reason_of(answer, "output") == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("f(1, 2)", "passed"),
        ("1, 2", "passed"),
        ("1, b=2", "passed"),
        ("f(1, b=side - 1)", "passed"),
        ("f(1, 3)", "wrong"),
        ("f(1, 2) or 1", "syntax"),
        ("f(f(1, 2))", "syntax"),
        ("1), f(2", "syntax"),
        ("f(1", "syntax"),
        ("type('I', (int,), {'__add__': lambda *_: 3, '__str__': lambda _: '1'})(5)", "wrong"),
        ("__import__('builtins').__setattr__('str', lambda _: '1'), 2", "died"),
    ],
)
def test_inputs(answer, reason):
    assert reason_of(answer, "input") == reason


def test_an_endless_answer():
    assert reason_of("max(0 for _ in iter(int, 1))", "output", seconds=1.0) == "timeout"


def test_a_problem_whose_input_is_a_function():
    problem = ExecutionProblem(
        id="sample_1", code="def f(g): return g(2)", input="lambda x: x + 1", output="3"
    )
    assert reason_of("lambda x: x + 1", "input", problem) == "passed"
    assert reason_of("lambda x: x", "input", problem) == "wrong"


def test_a_broken_problem_is_no_verdict():
    broken = ExecutionProblem(id="sample_2", code="", input="1", output="object()")
    with pytest.raises(EvaluationError, match="sample_2"):
        reason_of("1", "output", broken)
