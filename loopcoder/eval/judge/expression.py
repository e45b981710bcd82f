"""Evaluates the text of an answer to CRUXEval: the source of a program run in the sandbox.

Its `evaluate` is called there like a candidate's function, so only plain values come out.
"""

import ast
from typing import Any


def evaluate(text: str, want: str, code: str) -> Any:
    """The value of an expression ("value"), or of a call of f that is the answer.

    For the call, "arguments" gives what f would get (a list, a dict), with `code`'s names known to
    the expression, and "result" calls the f of `code`. Raises `SyntaxError` for another text: f
    may be called once, around everything, or not at all.
    """
    if want == "value":
        tree = ast.parse(text.strip(), mode="eval")
        return eval(compile(tree, "answer", "eval"), {})
    call = _call(text.strip())
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    if want == "arguments":
        namespace["f"] = lambda *args, **kwargs: (list(args), kwargs)
    return eval(compile(ast.Expression(call), "answer", "eval"), namespace)


def _call(text: str) -> ast.Call:
    """The answer as the call of f that it is, or that its arguments are meant for."""
    for source in (text, f"f({text})"):
        try:
            call = ast.parse(source, mode="eval").body
        except SyntaxError:
            continue
        named = [node for node in ast.walk(call) if isinstance(node, ast.Name) and node.id == "f"]
        if isinstance(call, ast.Call) and named == [call.func]:
            return call
    raise SyntaxError("neither a call of f nor its arguments")
