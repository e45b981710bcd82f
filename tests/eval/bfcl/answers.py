"""Right answers, written from the leaderboard's lists of possible ones, as a model would write."""

import json
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from loopcoder.eval.bfcl import VERSIONS

Call = tuple[str, dict[str, str]]  # a function's name, and its arguments' source text

LEFT_OUT = object()


def interpreter(version: str) -> Path:
    """The Python of that version's environment; the test is skipped where there is none."""
    found = VERSIONS[version].interpreter()
    if found is None:
        pytest.skip(f"no environment: run `loopcoder eval setup {VERSIONS[version].name}`")
    return found


@cache
def data_directory(python: Path) -> Path:
    program = "import bfcl_eval; print(bfcl_eval.__path__[0])"
    out = subprocess.run(
        [python, "-I", "-c", program], capture_output=True, text=True, check=True
    ).stdout
    return Path(out.strip()) / "data"


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@dataclass(frozen=True)
class Key:
    """A question's functions, as they are in its file, and the calls that answer it."""

    id: str
    functions: dict[str, dict[str, Any]]
    calls: tuple[tuple[str, dict[str, Any]], ...]


def keys(python: Path, version: str, category: str) -> list[Key]:
    """The answers to every question of a category; none for relevance and irrelevance."""
    name = f"BFCL_{version}_{category}.json"
    data = data_directory(python)
    answers = data / "possible_answer" / name
    if not answers.exists():
        return []
    found = []
    for question, answer in zip(rows(data / name), rows(answers), strict=True):
        functions = {each["name"]: each for each in question["function"]}
        calls = tuple(_call(each, functions) for each in answer["ground_truth"])
        found.append(Key(id=question["id"], functions=functions, calls=calls))
    return found


def _call(
    possible: dict[str, Any], functions: dict[str, dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    ((name, arguments),) = possible.items()
    if len(functions) == 1:
        (name,) = functions  # some answers of v3 spell it otherwise; the checker wants this
    required = functions[name]["parameters"]["required"]
    chosen = {key: _first(options, key in required) for key, options in arguments.items()}
    return name, {key: value for key, value in chosen.items() if value is not LEFT_OUT}


def _first(options: list[Any], required: bool) -> Any:
    """The first option; an empty text stands for leaving the argument out, if that may be."""
    if not options or ("" in options and not required):
        return LEFT_OUT
    value = next((option for option in options if option != ""), "")
    if isinstance(value, dict):
        return _filled(value)
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return [_filled(each) for each in value]
    return value


def _filled(options: dict[str, Any]) -> dict[str, Any]:
    """A dictionary of lists of options, which are not nested further."""
    return {key: each[0] for key, each in options.items() if "" not in each}


def written(key: Key, category: str) -> str:
    """The answer as a list of calls in the question's language."""
    return f"[{', '.join(_source(key, *each, category) for each in key.calls)}]"


def _source(key: Key, name: str, arguments: dict[str, Any], category: str) -> str:
    texts = (
        f"{k}={_quoted(_literal(key, name, k, v, category), v, category)}"
        for k, v in arguments.items()
    )
    return f"{name}({', '.join(texts)})"


def as_tools(key: Key, category: str) -> list[dict[str, str]]:
    """The answer as tool calls; Java's and JavaScript's arguments are source text, as is asked."""
    calls = []
    for name, arguments in key.calls:
        given = {k: _literal(key, name, k, v, category) for k, v in arguments.items()}
        if "java" not in category:
            given = arguments
        calls.append({name.replace(".", "_"): json.dumps(given)})
    return calls


def _quoted(source: str, value: Any, category: str) -> str:
    if "java" in category and isinstance(value, str):
        return source if '"' in source else f'"{source}"'
    return source


def _literal(key: Key, function: str, argument: str, value: Any, category: str) -> str:
    """A value's source text; texts of Java and JavaScript without their quotes."""
    if "java" not in category:
        return repr(value)
    if isinstance(value, str):
        return value
    if "javascript" in category:
        return json.dumps(value)
    properties = key.functions[function]["parameters"]["properties"][argument]
    return _java(value, properties["type"], properties.get("items", {}).get("type", "any"))


def _java(value: Any, kind: str, inner: str = "any") -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float() if kind in ("long", "float"):
            return f"{value}{'L' if kind == 'long' else 'f'}"
        case str() if kind == "char":
            return f"'{value}'"
        case str() if kind == "quoted":
            return f'"{value}"'
        case list() if kind == "Array":
            return f"new {inner}[]{{{', '.join(_java(each, inner) for each in value)}}}"
        case list():
            within = "quoted" if inner == "String" else inner
            items = ", ".join(_java(each, within) for each in value)
            return f"new ArrayList<{inner}>(Arrays.asList({items}))"
        case dict():
            puts = " ".join(f'put("{k}", {_java(v, "quoted")});' for k, v in value.items())
            return f"new HashMap<String, Object>() {{{{ {puts} }}}}"
    return str(value)


def environment_of_cli(python: Path, root: Path) -> dict[str, str]:
    return {**os.environ, "BFCL_PROJECT_ROOT": str(root), "OPENAI_API_KEY": "none"}
