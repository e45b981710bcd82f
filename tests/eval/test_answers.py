"""What models write, in all its forms, and the program or value that is meant."""

import ast
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcoder.eval.answers import answered, completed, cut, filled, needed, predicted
from loopcoder.eval.problems import Assertions, CodeProblem, ExecutionProblem
from loopcoder.eval.prompts import HUMANEVAL_STOPS, MBPP_STOPS, fill_gap, predict, write_function

SIGNATURE = 'from typing import List\n\ndef add(a: int, b: int) -> int:\n    """ Sum. """\n'
DOCSTRING = '"""\nWrite a function to add.\nassert add(1, 2) == 3\n"""\n'
GOOD = "def add(a, b):\n    return a + b\n"


def problem(prompt: str = SIGNATURE, **changes: Any) -> CodeProblem:
    tests = Assertions(source="assert add(1, 2) == 3")
    values: dict[str, Any] = {"id": "HumanEval/0", "reference": GOOD, "entry_point": "add"}
    return CodeProblem(**{**values, "prompt": prompt, "tests": tests, **changes})


def run(program: str) -> Any:
    space: dict[str, Any] = {}
    exec(program, space)
    return space["add"](1, 2)


def fenced(code: str, mark: str = "```python") -> str:
    return f"{mark}\n{code}\n{mark[:3]}"


@pytest.mark.parametrize(
    "text",
    [
        fenced(GOOD),
        fenced(GOOD, "```"),
        fenced(GOOD, "~~~py"),
        fenced(GOOD).replace("\n", "\r\n"),
        f"Sure! Here it is:\n\n{fenced(GOOD)}\n\nIt adds `a` and `b`.",
        "1. First:\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n",
        f"```python\n{GOOD}",  # cut off before the fence ends
        f"```python\n{GOOD}\ndef other(x):\n    return (x +",  # in the middle of a line
        f"{fenced('pip install numpy', '```bash')}\nthen\n{fenced(GOOD)}",
        f"{fenced('x = 1')}\n{fenced(GOOD)}\n{fenced('def add(a, b):' + chr(10) + '    return 0')}",
        GOOD,  # no fence at all
        f"Here is the function:\n\n{GOOD}\nI hope that this helps. It's easy!",
        f"<think>Is it\n```\ndef add(a, b): return 9\n```\n?</think>\n{fenced(GOOD)}",
        fenced(f"{GOOD}\nassert add(1, 1) == 3\nprint(add(int(input()), 2))"),
        fenced(f"{GOOD}\nif __name__ == '__main__':\n    raise SystemExit"),
        fenced(f"{GOOD}\nnumber = int(input())\nfor n in range(3):\n    assert add(n, n) == 0"),
        fenced("def helper(a):\n    return a\n\ndef add(a, b):\n    return helper(a) + b"),
        fenced("ZERO = 0\ntotal, rest = ZERO, 1\ndef add(a, b):\n    return a + b + total"),
        fenced("import functools as f\n@f.lru_cache\ndef add(a, b):\n    return a + b"),
        fenced("try:\n    import nowhere\nexcept ImportError:\n    pass\n" + GOOD),
        fenced("add = lambda a, b: (\n    a +\n    b)"),
        fenced("class Sum:\n    def of(self, a, b): return a + b\nadd = Sum().of"),
    ],
)
def test_the_program_of_a_chat_answer(text: str) -> None:
    for prompt in (SIGNATURE, DOCSTRING):
        assert run(answered(problem(prompt), text)) == 3


@pytest.mark.parametrize(
    "body", ["return a + b", "    return a + b", "c = a\nif b:\n    c += b\nreturn c"]
)
def test_a_body_goes_behind_the_signature(body: str) -> None:
    program = answered(problem(), fenced(body))
    assert program.startswith(SIGNATURE)
    assert run(program) == 3
    assert run(answered(problem(SIGNATURE.rstrip()), body)) == 3
    assert "def add" not in answered(problem(DOCSTRING), fenced(body))


@pytest.mark.parametrize(
    "text", ["", "  \n", "```\n\n```\n```\n", "<think>never to the end\n```python\ndef add"]
)
def test_no_answer_is_empty(text: str) -> None:
    assert answered(problem(), text) == ""


@pytest.mark.parametrize("text", ["I cannot do that.", fenced("def other(a):\n    return a")])
def test_what_defines_nothing_stays_what_it_is(text: str) -> None:
    assert answered(problem(), text).strip() in (text, "def other(a):\n    return a")


def test_blanks_in_strings_stay() -> None:
    code = 'def add(a, b):\n    """\n    \n    """\n    return """\n \t \n"""\n'
    assert answered(problem(), fenced(code)) == code


def test_what_is_not_needed_is_left_out() -> None:
    one = "import os\nX = 1\nY = X\ndef one():\n    return Y\n"
    code = f"{one}def two():\n    return one()\nprint(X)\n"
    assert needed(code, "one") == one
    assert "two" in needed(code, "two")


@given(st.text(alphabet=st.sampled_from("`~\n def add(a):rtun+'\"\\#@\x0c\r\0[]"), max_size=120))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_program(text: str) -> None:
    assert isinstance(answered(problem(), text), str)
    assert isinstance(answered(problem(), f"```\n{text}"), str)
    for mode in ("input", "output"):
        assert isinstance(predicted(text, mode), str)


def test_a_long_answer_that_goes_in_circles_is_read_quickly() -> None:
    """Each start of a definition is read once, not against every end: 12 000 lines."""
    text = "def add(x):\n    return (x\n" * 4000 + "class A:\n" * 4000
    assert "def add" in answered(problem(), text)


def test_completions_end_at_the_first_stop() -> None:
    text = "    return a + b\n\n\ndef other():\n    pass\nprint(add(1, 2))\n"
    assert completed(problem(), text, HUMANEVAL_STOPS) == SIGNATURE + "    return a + b\n\n"
    asked = DOCSTRING + GOOD
    assert completed(problem(DOCSTRING), f"{GOOD}\nassert add(", MBPP_STOPS) == asked
    assert cut("no stop", MBPP_STOPS) == "no stop"


GAP = {"prompt": "def add(a, b):\n", "suffix": "    return c\n"}


def test_gaps_are_filled() -> None:
    gap = problem(**GAP, id="MultiLineInfilling/HumanEval/0/L0_L0")
    assert run(filled(gap, "    c = a\n    c += b\n")) == 3
    middle = problem(
        prompt="def add(a, b):\n    ret", suffix="a + b\n", id="RandomSpanInfilling/0/1"
    )
    assert run(filled(middle, "urn ")) == 3


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_single_line_is_one_line(end: str) -> None:
    prompt, line = "def add(a, b):\n", f"    c = a + b{end}"
    suffix = "    return c\n" if end else "\n    return c\n"
    name = "SingleLineInfilling/HumanEval/0/L0"
    one = problem(prompt, suffix=suffix, id=name, reference=prompt + line + suffix)
    for text in ("    c = a + b", "    c = a + b\n", "\n    c = a + b\n    return 0\n"):
        assert filled(one, text) == one.reference


@pytest.mark.parametrize(
    ("text", "call", "value"),
    [
        ("assert f([1], 'a == b') == [1, 2]\n", "f([1], 'a == b')", "[1, 2]"),
        ("[ANSWER]\nassert f(1) == (2,)\n[/ANSWER]\nmore", "f(1)", "(2,)"),
        ("[THOUGHT]\n[ANSWER]\nno\n[/ANSWER]\n[/THOUGHT]\n[ANSWER]f(1) == 2[/ANSWER]", "f(1)", "2"),
        ("<think>assert f(0) == 0</think>[ANSWER]\nassert 2 == f(1)\n[/ANSWER]", "f(1)", "2"),
        ("```python\nassert f(1) == 2\n```", "f(1)", "2"),
        ("assert f(\n  1,\n) == {\n  'a': 2}\nassert f(3) == 4", "f(\n  1,\n)", "{\n  'a': 2}"),
        ("`assert f(1) == 2`", "f(1)", "2"),
        ("assert f(1) == 2, 'why'", "f(1)", "2"),
        ("def f(x):\n    return x == 1\nassert f(1) == 2", "f(1)", "2"),
        ("assert f(1)) == 2", "f(1))", "2"),
    ],
)
def test_the_side_that_was_asked_for(text: str, call: str, value: str) -> None:
    assert predicted(text, "input") == call
    assert predicted(text, "output") == value


@pytest.mark.parametrize("text", ["'a'", "[ANSWER] 'a' [/ANSWER]", "'a'\n\nBecause it is."])
def test_a_value_alone(text: str) -> None:
    assert predicted(text, "output") == "'a'"


def test_a_number_too_long_to_print_stays_as_written() -> None:
    assert predicted(f"assert f(1) == {'9' * 5000}", "output") == "9" * 5000


def test_prompts_of_functions() -> None:
    completion = write_function(problem(), "completion", HUMANEVAL_STOPS)
    assert (completion.text, completion.raw) == (SIGNATURE, True)
    chat = write_function(problem(), "chat", HUMANEVAL_STOPS)
    assert chat.text.endswith(f"```python\n{SIGNATURE.strip()}\n```\n")
    assert (chat.raw, chat.stop) == (False, ())
    gap = fill_gap(problem(**GAP))
    assert (gap.text, gap.suffix, gap.raw) == (GAP["prompt"], GAP["suffix"], True)


@pytest.mark.parametrize("reasoning", [False, True])
@pytest.mark.parametrize("mode", ["input", "output"])
def test_prompts_of_predictions_hide_what_is_asked_for(mode: Any, reasoning: bool) -> None:
    asked = ExecutionProblem(id="1", code="def f(x):\n    return x", input="'in'", output="'out'")
    for style in ("chat", "completion"):
        prompt = predict(asked, style, mode, reasoning)
        last = prompt.text.split("[PYTHON]")[-1]
        assert ("'in'" in last, "'out'" in last) == (mode == "output", mode == "input")
        assert ("[THOUGHT]" in prompt.text) == reasoning
        assert prompt.raw == (style == "completion")
        assert prompt.text.endswith("]\n")


@pytest.mark.parametrize("reasoning", [False, True])
@pytest.mark.parametrize("mode", ["input", "output"])
def test_the_examples_of_the_prompts_hold(mode: Any, reasoning: bool) -> None:
    asked = ExecutionProblem(id="1", code="def f(x):\n    return x", input="1", output="1")
    text = predict(asked, "chat", mode, reasoning).text
    shown = text.split("[PYTHON]\n")[1:-1]
    assert len(shown) == 2
    for example in shown:
        code = example.partition("\nassert")[0]
        answer = example.rpartition("[ANSWER]")[2]
        space: dict[str, Any] = {}
        exec(code, space)
        exec(answer.partition("[/ANSWER]")[0], space)
        value = ast.literal_eval(predicted(answer, "output"))
        assert eval(predicted(answer, "input"), space) == value
