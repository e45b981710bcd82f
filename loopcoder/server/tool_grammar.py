"""The grammar of an answer that may or must call tools, in llguidance's Lark dialect.

A call is `<tool_call>`, an object with "name" and "arguments" in this order, `</tool_call>`; calls
follow each other on lines of their own, and nothing follows the last. In free text the opening
tag always begins a call.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loopcoder.engine.structured import enforceable, json_schema
from loopcoder.errors import RequestError
from loopcoder.server.tool_reader import CLOSE, OPEN


def tool_grammar(
    functions: Sequence[Mapping[str, Any]],
    *,
    must_call: bool,
    parallel: bool,
    answer: Mapping[str, Any] | str | None = None,
    special_tags: bool = False,
) -> str:
    """Calls of `functions`, at least one if `must_call`, at most one unless `parallel`.

    Without `must_call` the answer may also be text without a call, or JSON of the schema `answer`
    if there is one. `special_tags`: both tags are special tokens, which text cannot spell.
    """
    opened, closed = (OPEN, CLOSE) if special_tags else (_quoted(OPEN), _quoted(CLOSE))
    more = ' ("\\n" call)*' if parallel else ""
    rules = [f"call: {opened} body", f'body: "\\n"? function "\\n"? {closed}']
    if must_call:
        rules.insert(0, f"start: call{more}")
    elif answer is not None:
        rules[:0] = [f"start: answer | call{more}", f"answer: %json {json_schema(answer)}"]
    elif special_tags:
        rules[:0] = [f"start: TEXT | TEXT call{more}", r"TEXT: /(.|\n)*/"]
    else:
        rules[:0] = [
            f"start: TEXT | lead body{more}",
            r"TEXT: /(.|\n)*/",
            rf"lead[lazy]: /(.|\n)*{OPEN}/",
        ]
    names = [f"function_{number}" for number in range(len(functions))]
    rules.append(f"function: {' | '.join(names)}")
    rules += [
        f"{name}: {_function(function)}" for name, function in zip(names, functions, strict=True)
    ]
    return "\n".join(rules) + "\n"


def _function(function: Mapping[str, Any]) -> str:
    """The object of one function's call. The schema stands on its own, so that its `$ref`s hold."""
    name = _quoted(f"{json.dumps(function['name'], ensure_ascii=False)},")
    keys = [_quoted('{"name":'), '" "?', name, '" "?', _quoted('"arguments":'), '" "?']
    return f'{" ".join(keys)} %json {json_schema(_arguments(function))} "}}"'


def _arguments(function: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the arguments; a function without one takes none."""
    given = function.get("parameters")
    if not given:
        given = {"properties": {}, "additionalProperties": False}
    kind = given.get("type", "object")
    if kind != "object":
        raise RequestError(
            f"the parameters of function {function['name']!r} are of type {kind!r}; arguments are "
            'an object, so give a schema of type "object"'
        )
    return enforceable({"type": "object", **given}, strict=bool(function.get("strict")))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
