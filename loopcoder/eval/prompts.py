"""How each benchmark asks: base models go on with a text, tuned ones are asked in a conversation.

Neither inspect-ai nor a model here: a problem in, a `Prompt` out.
"""

from dataclasses import dataclass
from typing import Literal

from loopcoder.eval.problems.types import CodeProblem, ExecutionProblem

Style = Literal["chat", "completion"]
Mode = Literal["input", "output"]

# Where HumanEval's paper (arXiv 2107.03374, section 3.2) ends a function's body.
HUMANEVAL_STOPS = ("\ndef", "\nclass", "\nprint", "\nif", "\n#")
# Where EvalPlus 0.3.1 ends a program that goes on after MBPP's docstring.
MBPP_STOPS = ('\n"""', "\nassert", "\nprint(", "\nif __name__", "\ndef main(")
ANSWER, END_OF_ANSWER = "[ANSWER]", "[/ANSWER]"
END_OF_THOUGHT = "[/THOUGHT]"

# EvalPlus 0.3.1's own words, for scores are comparable only with them.
INSTRUCTION = (
    "Please provide a self-contained Python script that solves the following problem in a markdown "
    "code block:"
)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text to go on with (`raw`), or a user's message. `stop`: what ends the answer.

    With `suffix` the answer is what stands between the text and the suffix.
    """

    text: str
    raw: bool
    stop: tuple[str, ...] = ()
    suffix: str | None = None


def write_function(problem: CodeProblem, style: Style, stop: tuple[str, ...]) -> Prompt:
    """HumanEval and MBPP, with tests of either kind; `stop` is for completions."""
    if style == "completion":
        return Prompt(text=problem.prompt, raw=True, stop=stop)
    return Prompt(text=f"{INSTRUCTION}\n```python\n{problem.prompt.strip()}\n```\n", raw=False)


def fill_gap(problem: CodeProblem) -> Prompt:
    """Fill-in-the-middle; it ends where the model ends it."""
    assert problem.suffix is not None, "a problem without a gap"
    return Prompt(text=problem.prompt, raw=True, suffix=problem.suffix)


def predict(problem: ExecutionProblem, style: Style, mode: Mode, reasoning: bool) -> Prompt:
    """CRUXEval, in its published form: examples, then an assertion to complete between tags.

    In both styles the last words are the tag that the answer opens with (arXiv 2401.03065).
    """
    rules, examples = (_OUTPUT, _OUTPUTS) if mode == "output" else (_INPUT, _INPUTS)
    shown = "\n\n".join(_example(*example, mode, reasoning) for example in examples)
    asked = _question(problem.code, problem.input, problem.output, mode)
    how, begin = (_REASONED, "[THOUGHT]") if reasoning else (_DIRECT, ANSWER)
    return Prompt(
        text=f"{rules} {how}\n\n{shown}\n\n{asked}\n{begin}\n",
        raw=style == "completion",
        # A tuned model that thinks aloud may name the closing tag on its way.
        stop=() if reasoning and style == "chat" else (END_OF_ANSWER,),
    )


def _question(code: str, given: str, value: str, mode: Mode) -> str:
    call = f"f({given}) == ??" if mode == "output" else f"f(??) == {value}"
    return f"[PYTHON]\n{code}\nassert {call}\n[/PYTHON]"


def _example(code: str, given: str, value: str, thought: str, mode: Mode, reasoning: bool) -> str:
    told = f"[THOUGHT]\n{thought}\n{END_OF_THOUGHT}\n" if reasoning else ""
    answer = f"{ANSWER}\nassert f({given}) == {value}\n{END_OF_ANSWER}"
    return f"{_question(code, given, value, mode)}\n{told}{answer}"


_OUTPUT = (
    "Below is a Python function and an assertion about it whose right side is missing. Complete "
    "the assertion with the value that the call returns, as a literal: nothing left to compute, "
    "no call. The code counts as it stands, even where it looks mistaken."
)
_INPUT = (
    "Below is a Python function and an assertion about it whose argument is missing. Complete the "
    "assertion with arguments that make it hold; any that do are right, give one choice. The code "
    "counts as it stands, even where it looks mistaken."
)
_DIRECT = (
    "Write the whole assertion between [ANSWER] and [/ANSWER] as in the examples, and nothing else."
)
_REASONED = (
    "First follow the code step by step between [THOUGHT] and [/THOUGHT], then write the whole "
    "assertion between [ANSWER] and [/ANSWER], as in the examples."
)

# (code, arguments, value, how one gets there)
_OUTPUTS = (
    (
        "def f(words):\n    words = words[1:]\n    return [w.upper() for w in words]",
        '["a", "bc", "d"]',
        '["BC", "D"]',
        'words is ["a", "bc", "d"]. words[1:] leaves ["bc", "d"]. Each in upper case gives '
        '["BC", "D"], which is returned.',
    ),
    (
        'def f(n, s):\n    while n > 10:\n        n //= 2\n        s += "-"\n    return s + str(n)',
        '25, "x"',
        '"x--6"',
        '25 > 10, so n becomes 12 and s "x-". 12 > 10, so n becomes 6 and s "x--". 6 is not above '
        '10. The call returns "x--" + "6".',
    ),
)
_INPUTS = (
    (
        "def f(values):\n    return sorted(values)[-2]",
        "[3, 9, 7]",
        "7",
        "The second largest item must be 7. A list of 7, something above it and something below "
        "does: [3, 9, 7] sorted is [3, 7, 9], and its last but one is 7.",
    ),
    (
        'def f(text, mark):\n    return text.replace(mark, "") + mark',
        '"a.b", "."',
        '"ab."',
        'The value ends in mark, so mark may be ".". Before it stands text without any ".", which '
        'must be "ab". text = "a.b" gives that.',
    ),
)
