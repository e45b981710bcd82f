import pytest

from loopcoder.errors import EvaluationError
from tests.eval.judge.running import by_inputs, by_tests, judged, needs_bubblewrap

pytestmark = [pytest.mark.slow, needs_bubblewrap]

DOUBLE = "def f(x):\n    return x + x\n"


@pytest.mark.parametrize(
    ("code", "reason", "detail"),
    [
        (DOUBLE, "passed", ""),
        ("def f(x): return x * x", "wrong", "base input 1: gave 9, not 6"),
        ("def f(x): return None", "wrong", "base input 0: gave None, not 4"),
        ("def f(x): return 1 / 0", "raised", "base input 0: ZeroDivisionError: division by zero"),
        ("raise KeyError('k')", "raised", "KeyError: 'k'"),
        ("def f(x:\n", "syntax", "SyntaxError: '(' was never closed (candidate.py, line 1)"),
        ("def g(x): return 1", "missing", "f is not defined"),
        ("  \n", "empty", "no code"),
    ],
)
def test_reasons(code, reason, detail):
    verdict = judged(by_inputs(DOUBLE, (2,), (3,)), code)
    assert (verdict.reason, verdict.detail) == (reason, detail)
    assert verdict.base is verdict.plus is (reason == "passed")


def test_base_and_plus_are_two_verdicts():
    problem = by_inputs(DOUBLE, (2,), plus=((2.5,), ("ab",)))
    verdict = judged(problem, "def f(x): return 2 * int(x)")
    assert (verdict.base, verdict.plus) == (True, False)
    assert verdict.detail == "plus input 0: gave 4, not 5.0"


def test_base_and_plus_run_in_fresh_processes():
    code = "calls = []\ndef f(x):\n    calls.append(x)\n    return 2 * x if len(calls) < 2 else 0"
    verdict = judged(by_inputs(DOUBLE, (2,), plus=((3,),)), code)
    assert verdict.plus


def test_arguments_are_copies():
    problem = by_inputs("def f(x): return len(x)", ([1, 2],))
    code = "def f(x):\n    n = len(x)\n    x.clear()\n    return n"
    assert judged(problem, code).plus
    assert problem.tests.base == (([1, 2],),)


def test_the_reference_runs_once_for_all_answers():
    reference = "import random\ndef f(x): return random.random()"
    problem = by_inputs(reference, (1,))
    shown = {judged(problem, "def f(x): return 2").detail for _ in range(2)}
    assert len(shown) == 1


def test_a_broken_reference_is_no_verdict():
    with pytest.raises(EvaluationError, match=r"the reference of t fails \(raised: KeyError"):
        judged(by_inputs("def f(x): raise KeyError(x)", (1,)), DOUBLE)
    with pytest.raises(EvaluationError, match="tests of t cannot be run"):
        judged(by_tests("def f(x): return 1", "assert f(1)", setup="nothing()"), DOUBLE)
    with pytest.raises(EvaluationError, match="object of class tests"):
        judged(by_tests("class Node: pass\n" + DOUBLE, "f([Node()])"), DOUBLE)
    with pytest.raises(EvaluationError, match="'near'"):
        judged(by_inputs(DOUBLE, (1,), oracle="near"), DOUBLE)


@pytest.mark.parametrize(
    ("source", "code", "reason"),
    [
        ("assert f(2) == 4\nassert f('a') == 'aa'", DOUBLE, "passed"),
        ("assert f(2) == 4\nassert f('a') == 'aa'", "def f(x): return 4", "wrong"),
        ("assert f(x=2) == helper()", DOUBLE, "passed"),
        ("assert f(2) == 4", "def f(x): return [][1]", "raised"),
        (
            "try:\n    f(0)\nexcept IndexError:\n    pass\nelse:\n    assert 0",
            "f = [].pop",
            "passed",
        ),
        ("assert list(f(2)) == [1, 2]", "def f(x): return map(int, '12')", "passed"),
        ("assert f(2)[0] == 4", "def f(x): return 4", "wrong"),
        ("assert f(f(2)) == 4", "def f(x): return object()", "wrong"),
    ],
)
def test_test_programs(source, code, reason):
    reference = "def helper(): return 4\n" + DOUBLE
    assert judged(by_tests(reference, source), code).reason == reason
