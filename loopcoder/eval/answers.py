"""From what a model wrote to the program, or the value, that it means."""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterable

from loopcoder.eval.problems.types import CodeProblem
from loopcoder.eval.prompts import ANSWER, END_OF_ANSWER, END_OF_THOUGHT, Mode

THINKING, END_OF_THINKING = "<think>", "</think>"
# A fence, what it opens with, and its end: the same marks, or the end of the text.
_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.M | re.S)
_DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_ASSERTION = re.compile(r"^assert\b", re.M)
_START = re.compile(r"(?:import|from|def|async def|class)\b|@")
_NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)
_LONGEST = 100_000  # characters looked at; a longer answer is no answer
_STARTS = 500  # of definitions in it that are tried, where Python breaks off again and again
_STATEMENT = 200  # lines of a value, at most


def completed(problem: CodeProblem, text: str, stop: Iterable[str]) -> str:
    """The program of a completion: the prompt, and the text up to the first stop string."""
    return problem.prompt + cut(text, stop)


def cut(text: str, stop: Iterable[str]) -> str:
    """The text up to the first of the strings."""
    found = [place for each in stop if (place := text.find(each)) >= 0]
    return text[: min(found)] if found else text


def filled(problem: CodeProblem, text: str) -> str:
    """The program of an infilling: prompt, answer, suffix, and nothing cut where they overlap.

    In the single-line tasks an answer counts up to the end of its first line with something on it.
    """
    assert problem.suffix is not None, "a problem without a gap"
    if problem.id.startswith("SingleLine"):
        gap = problem.reference[len(problem.prompt) : -len(problem.suffix) or None]
        line = next((line for line in text.split("\n") if line.strip()), "")
        text = f"{line}\n" if gap.endswith("\n") else line
    return problem.prompt + text + problem.suffix


def answered(problem: CodeProblem, text: str) -> str:
    """The program of a chat answer, "" where there is none.

    It is the first code block that defines the entry point, else the longest that is Python, else
    the longest; a text without blocks is taken as one. A block that is only a function's body goes
    behind the prompt's signature. What the entry point does not need (examples, tests, a main
    program) is left out, as EvalPlus does.
    """
    text = _spoken(text)
    name = problem.entry_point
    blocks = [_dedented(match[2]) for match in _FENCE.finditer(text)] or [text]
    for block in blocks:
        if (code := _defining(block, name)) is not None:
            return needed(code, name)
    written = [block for block in blocks if block.strip()]
    python = [block for block in written if _tree(_dedented(block))]
    longest = max(python or written, key=len, default="")
    return _joined(problem, longest) or longest


def _dedented(block: str) -> str:
    """The block from its margin on; as it is where it has none, for strings keep their blanks."""
    return textwrap.dedent(block) if block.lstrip("\n")[:1].isspace() else block


def _spoken(text: str) -> str:
    """The answer without what was thought before it; "" if the thinking has not ended."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.lstrip().startswith(THINKING) and END_OF_THINKING not in text:
        return ""
    return text.rpartition(END_OF_THINKING)[2][:_LONGEST]


def _defining(text: str, name: str) -> str | None:
    """The longest run of lines that is Python and defines the name, if any.

    Answers are cut off in the middle of a line, or have prose around their code.
    """
    if name not in text:
        return None
    lines = text.split("\n")
    starts = [0, *(n for n, line in enumerate(lines) if n and _START.match(line))]
    passed = 0
    for start in starts[:_STARTS]:
        if start < passed:
            continue
        passed = _end_of_python(lines, start)
        code = "\n".join(lines[start:passed])
        if name in _names(_tree(code)):
            return code
    return None


def _end_of_python(lines: list[str], start: int) -> int:
    """How far one can read from a line on: nothing parses that reaches beyond an error."""
    end = len(lines)
    while end > start:
        error = _error("\n".join(lines[start:end]))
        if error is None:
            return end
        end = min(end - 1, start + error - 1)
    return start


def _joined(problem: CodeProblem, block: str) -> str | None:
    """The prompt with the block as its function's body, where the prompt is a signature."""
    block = _dedented(block)
    body = _tree(block)
    if body is None or not any(map(_returns, body.body)):
        return None
    if problem.entry_point not in _names(_tree(problem.prompt.rstrip() + "\n    pass\n")):
        return None
    program = problem.prompt.rstrip() + "\n" + textwrap.indent(block, "    ")
    return program if _tree(program) else None


def _returns(node: ast.stmt) -> bool:
    if isinstance(node, _DEFINITION):
        return False
    return any(isinstance(each, ast.Return | ast.Yield) for each in ast.walk(node))


def needed(code: str, name: str) -> str:
    """The lines of a program that the entry point needs: imports, and what it reaches by name."""
    tree = _tree(code)
    if tree is None:
        return code
    defined = [(set(_bound(node)), node) for node in tree.body]
    reached: set[str] = set()
    waiting = {name}
    while waiting:
        each = waiting.pop()
        reached.add(each)
        for names, node in defined:
            if each in names:
                waiting |= _used(node) - reached
    lines = code.split("\n")
    kept: set[int] = set()
    for names, node in defined:
        if names & reached or _imports(node):
            kept.update(range(_first_line(node) - 1, node.end_lineno or node.lineno))
    return "\n".join(line for number, line in enumerate(lines) if number in kept) + "\n"


def _bound(node: ast.stmt) -> Iterable[str]:
    """The names that a statement at the top of a program binds."""
    if isinstance(node, _DEFINITION):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        # Of an attribute or an item, the object's name: it is changed.
        return {n.id for each in targets for n in ast.walk(each) if isinstance(n, ast.Name)}
    return []


def _imports(node: ast.stmt) -> bool:
    if isinstance(node, ast.Try | ast.If):  # the ways around a module that may be missing
        return any(isinstance(each, ast.Import | ast.ImportFrom) for each in node.body)
    return isinstance(node, ast.Import | ast.ImportFrom)


def _used(node: ast.stmt) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _first_line(node: ast.stmt) -> int:
    marks = node.decorator_list if isinstance(node, _DEFINITION) else []
    return min([node.lineno, *(mark.lineno for mark in marks)])


def _names(tree: ast.Module | None) -> set[str]:
    return {name for node in tree.body for name in _bound(node)} if tree else set()


def _tree(code: str) -> ast.Module | None:
    """Its syntax tree, or None where it is no Python."""
    try:
        return _parse(code)
    except _NO_PYTHON:
        return None


def _error(code: str) -> int | None:
    """The line of its first error, from 1 (1 where Python does not say), or None."""
    try:
        _parse(code)
    except SyntaxError as error:
        return error.lineno or 1
    except _NO_PYTHON:
        return 1
    return None


def _parse(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the model's code deserves is not ours to show
        return ast.parse(code)


def predicted(text: str, mode: Mode) -> str:
    """The value (mode "output") or the call of f (mode "input") of a CRUXEval answer.

    The last text between the answer's tags, or all of it where the opening one was in the prompt;
    of an assertion in it the side that was asked for.
    """
    text = _spoken(text).rpartition(END_OF_THOUGHT)[2]
    text = text.rpartition(ANSWER)[2].partition(END_OF_ANSWER)[0]
    fence = _FENCE.search(text)
    text = (fence[2] if fence else text).strip().strip("`").strip()
    assertion = _ASSERTION.search(text)  # the function may be repeated before it
    text = text[assertion.start() :] if assertion else text
    return _side(text, mode) or _split(text, mode)


def _side(text: str, mode: Mode) -> str | None:
    """By syntax: of `f(...) == value`, asserted or not, one side; else the expression itself."""
    lines = text.split("\n")[:_STATEMENT]
    # What stands below the first statement is not looked at; that may span several lines.
    starts = ("\n".join(lines[:count]) for count in range(1, len(lines) + 1))
    code, tree = next(((c, t) for c in starts if (t := _tree(c)) and t.body), ("", None))
    if tree is None:
        return None
    first = tree.body[0]
    test = getattr(first, "test" if isinstance(first, ast.Assert) else "value", None)
    if not isinstance(test, ast.expr):
        return None
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq):
        call, value = sorted((test.left, test.comparators[0]), key=_calls_f, reverse=True)
        test = call if mode == "input" else value
    return ast.get_source_segment(code, test)


def _calls_f(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "f"


def _split(text: str, mode: Mode) -> str:
    """By the equals signs, where it is no Python."""
    left, equals, right = text.removeprefix("assert").partition("==")
    return (right if equals and mode == "output" else left).strip()
