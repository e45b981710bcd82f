"""Answers right and wrong to every question, the same ones each time."""

import json
from dataclasses import replace
from typing import Any

from tests.eval.bfcl.answers import Key, as_tools, written

NO_CALLS = ["[]", "", "I cannot help with that.", "[f(x=1)]", "f()", "{}", "[f(x=g(1)), h()]", "["]


def changed(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case list():
            return [*value, value[0]] if value else [1]
        case dict():
            return {**value, "further": 1}
    return value


def _key(key: Key, kind: str) -> Key:
    calls = list(key.calls)
    name, arguments = calls[-1]
    last = next(reversed(arguments), None)
    match kind:
        case "changed" if last is not None:
            calls[-1] = name, {**arguments, last: changed(arguments[last])}
        case "dropped" if last is not None:
            calls[-1] = name, {k: v for k, v in arguments.items() if k != last}
        case "doubled":
            calls.append(calls[0])
        case "first":
            calls = calls[:1]
        case "reversed":
            calls.reverse()
    return replace(key, calls=tuple(calls))


KINDS = (
    "right",
    "changed",
    "dropped",
    "doubled",
    "first",
    "reversed",
    "fenced",
    "renamed",
    "further",
    "prose",
    "spaced",
    "broken",
)


def prompted(key: Key | None, category: str, number: int) -> str:
    """An answer in writing; which kind follows from the number."""
    if key is None:
        return NO_CALLS[number % len(NO_CALLS)]
    kind = KINDS[number % len(KINDS)]
    text = written(_key(key, kind), category)
    match kind:
        case "fenced":
            return f"```\n{text}\n```"
        case "renamed":
            return text.replace("(", "_other(", 1)
        case "further":
            return text.replace("(", "(further=1, ", 1)
        case "prose":
            return f"Certainly: {text}"
        case "spaced":
            return f"\n  {text[1:-1]}  \n"
        case "broken":
            return text.replace(")", "", 1)
    return text


def called(key: Key | None, category: str, number: int) -> list[dict[str, str]] | str:
    """The same as tool calls, or a text without any."""
    if key is None:
        return "No." if number % 2 else [{"f": json.dumps({"x": 1})}]
    kind = KINDS[number % len(KINDS)]
    calls = as_tools(_key(key, kind), category)
    match kind:
        case "renamed":
            return [{f"{name}_other": text for name, text in call.items()} for call in calls]
        case "further":
            return [
                {
                    name: json.dumps({**json.loads(text), "further": 1})
                    for name, text in call.items()
                }
                for call in calls
            ]
        case "prose":
            return json.dumps(calls)
        case "spaced":
            return [{name: f" {text} " for name, text in call.items()} for call in calls]
        case "broken":
            return [{name: text[:-1] for name, text in call.items()} for call in calls]
    return calls
