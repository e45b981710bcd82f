"""The leaderboard's side of BFCL: prompts, decoder and checker of the package `bfcl-eval`.

Run as a program by the Python of that package's own environment (`client.Bridge` does), with the
standard library and bfcl-eval alone. One JSON request a line comes in on standard input, one answer
a line goes out: `{"ok": ...}`, or `{"error": "..."}` where bfcl-eval or its files are at fault.

Two things of bfcl-eval are replaced. Its table of models imports the client library of every
vendor; the checker only asks it whether dots in function names became underscores. And its decoder
hands arithmetic in an answer to `eval`, so that `f(x=__import__("os").getpid()+1)` runs what the
model wrote; here only literals are computed, within bounds, and anything else is no call.
"""

import ast
import copy
import importlib
import json
import operator
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

Json = Any
SECONDS = 20.0  # for one answer
MEMORY = 4 << 30  # for this process
MAX_BITS = 1 << 16  # of an integer an answer computes
MAX_LENGTH = 1 << 16  # of a text or list an answer computes
DETAIL = 200  # characters of an explanation

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}


class OutOfTimeError(BaseException):
    """An answer took too long; no `Exception`, so that no handler of bfcl-eval's keeps it."""


def literal_value(source: str) -> Any:
    """What an expression of literals is worth; raises `ValueError` for any other expression."""
    return _value(ast.parse(source, mode="eval").body)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item) for item in items)
        case ast.UnaryOp(op=sign, operand=operand):
            return _SIGNS[type(sign)](_value(operand))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            a, b = _value(left), _value(right)
            _bounded(sign, a, b)
            return _OPERATORS[type(sign)](a, b)
    raise ValueError(f"{ast.unparse(node)[:DETAIL]} is no literal")


def _bounded(sign: ast.operator, a: Any, b: Any) -> None:
    """Raise `ValueError` for arithmetic whose result would be huge."""
    integers = isinstance(a, int) and isinstance(b, int)
    bits = 0
    if isinstance(sign, ast.Pow) and integers:
        bits = int(a).bit_length() * max(int(b), 0)
    elif isinstance(sign, ast.LShift) and integers:
        bits = int(a).bit_length() + max(int(b), 0)
    elif isinstance(sign, ast.Mult) and integers:
        bits = int(a).bit_length() + int(b).bit_length()
    elif isinstance(sign, ast.Mult) and not (_number(a) and _number(b)):
        times, items = (a, b) if isinstance(a, int) else (b, a)
        if len(items) * max(times, 0) > MAX_LENGTH:
            raise ValueError("the answer computes a value that is too long")
    elif isinstance(sign, ast.Mod) and not _number(a):
        raise ValueError("the answer formats a text")
    if bits > MAX_BITS:
        raise ValueError("the answer computes a number that is too large")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, complex))


class Package:
    """The installed bfcl-eval: generation 4 (since July 2025) or 3, which name things otherwise."""

    def __init__(self, data: Path | None) -> None:
        mapping = _bfcl("constants.category_mapping")
        self.prefix: str = mapping.VERSION_PREFIX  # of the data files
        if self.prefix not in ("BFCL_v3", "BFCL_v4"):
            raise ValueError(f"bfcl-eval is of {self.prefix}; only BFCL_v3 and BFCL_v4 are known")
        self.v3 = self.prefix == "BFCL_v3"
        self._replace_models()
        self.utils = _bfcl("utils")
        self.handler = _bfcl("model_handler.utils")
        self.handler.__dict__["eval"] = literal_value  # shadows the built-in one
        self.ast_checker = _bfcl("eval_checker.ast_eval.ast_checker").ast_checker
        config = _bfcl("constants.eval_config")
        self.questions = data or Path(config.PROMPT_PATH)
        self.answers = data / "possible_answer" if data else Path(config.POSSIBLE_ANSWER_PATH)
        groups = mapping.TEST_COLLECTION_MAPPING
        self.single_turn: list[str] = groups["single_turn"]
        self.groups = {k: [c for c in v if c in self.single_turn] for k, v in groups.items()}

    def _replace_models(self) -> None:
        models = ModuleType("bfcl_eval.constants.model_config")
        models.__dict__["MODEL_CONFIG_MAPPING"] = {
            "prompt": SimpleNamespace(underscore_to_dot=False),
            "tools": SimpleNamespace(underscore_to_dot=True),
        }
        sys.modules[models.__name__] = models

    def documented(self, category: str, functions: list[Json]) -> list[Json]:
        """Function descriptions as a model sees them, with notes on their language."""
        if self.v3:
            note = self.handler.func_doc_language_specific_pre_processing
        else:
            note = self.utils._func_doc_language_specific_pre_processing
        noted: list[Json] = note(functions, category)
        return noted

    def prompt(self, messages: list[Json], functions: list[Json], id: str) -> list[Json]:
        """The published prompt for models without function calling."""
        what = id.rsplit("_", 1)[0] if self.v3 else id
        prompt: list[Json] = self.handler.system_prompt_pre_processing_chat_model(
            messages, functions, what
        )
        return prompt

    def tools(self, functions: list[Json]) -> list[Json]:
        """The functions as OpenAI's tools."""
        if self.v3:
            style = _bfcl("model_handler.model_style").ModelStyle.OpenAI_Completions
        else:
            style = _bfcl("constants.enums").ModelStyle.OPENAI_COMPLETIONS
        openapi = _bfcl("constants.type_mappings").GORILLA_TO_OPENAPI
        tools: list[Json] = self.handler.convert_to_tool(functions, openapi, style)
        return tools

    def decode(self, text: str, language: str) -> Any:
        """The function calls in an answer; raises what it likes where there are none."""
        decode = self.handler.default_decode_ast_prompting
        if self.v3:
            return decode(text, language)
        return decode(text, _bfcl("constants.enums").ReturnFormat[language.upper()], False)

    def language(self, name: str) -> Any:
        """The checker's own name of a programming language."""
        return name if self.v3 else _bfcl("constants.enums").Language[name.upper()]


def _bfcl(module: str) -> Any:
    return importlib.import_module(f"bfcl_eval.{module}")


class Bridge:
    """Answers requests with a `Package`."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self._entries: dict[str, dict[str, Json]] = {}
        self._possible: dict[str, list[Json]] = {}

    def groups(self) -> Json:
        """The single-turn categories, by the published names of their collections."""
        return {"prefix": self.package.prefix, "groups": self.package.groups}

    def entries(self, category: str) -> Json:
        """A category's questions, each with the published prompt and with tools."""
        return [self._asked(category, entry) for entry in self._read(category).values()]

    def _asked(self, category: str, entry: Json) -> Json:
        functions = self.package.documented(category, copy.deepcopy(entry["function"]))
        messages = entry["question"][0]
        return {
            "id": entry["id"],
            "messages": messages,
            "prompt": self.package.prompt(copy.deepcopy(messages), functions, entry["id"]),
            "tools": self.package.tools(functions),
        }

    def check(self, id: str, mode: str, answer: Json) -> Json:
        """Whether an answer is right: a text, or in mode "tools" a list of {name: JSON text}."""
        category = id.rsplit("_", 1)[0]
        entry = self._read(category).get(id)
        if entry is None:
            raise ValueError(f"{self.package.prefix} has no question {id!r} in {category}")
        try:
            with _limited():
                return self._verdict(category, entry, mode, answer)
        except OutOfTimeError:
            return _no("timeout", f"reading the answer took longer than {SECONDS:g} s")

    def _verdict(self, category: str, entry: Json, mode: str, answer: Json) -> Json:
        relevance = "relevance" in category
        language = _language(category)
        try:
            calls = self._calls(mode, answer, "Python" if relevance else language)
        except Exception as error:
            calls, reason = None, f"{type(error).__name__}: {error}"
        else:
            reason = ""
        if relevance:
            called = not reason and not self.package.utils.is_empty_output(calls)
            return _relevant(category, called, reason)
        if reason:
            return _no("no_call", reason)
        if not self.package.utils.is_function_calling_format_output(calls):
            return _no("no_call", "something else than function calls")
        return self._compared(category, entry, mode, calls, language)

    def _calls(self, mode: str, answer: Json, language: str) -> Any:
        if mode == "prompt":
            return self.package.decode(answer, language)
        if isinstance(answer, str):
            raise ValueError("a text without tool calls")
        return [{name: json.loads(text)} for call in answer for name, text in call.items()]

    def _compared(
        self, category: str, entry: Json, mode: str, calls: list[Json], language: str
    ) -> Json:
        possible = self._answers(category)[list(self._read(category)).index(entry["id"])]
        try:
            result = self.package.ast_checker(
                entry["function"],
                calls,
                possible["ground_truth"],
                self.package.language(language),
                category,
                mode,
            )
        except Exception as error:  # bfcl-eval's own command stops at such an answer
            return _no("checker_raised", f"{type(error).__name__}: {error}")
        if result["valid"]:
            return {"valid": True, "reason": "passed", "detail": ""}
        return _no(result["error_type"], "; ".join(str(each) for each in result["error"]))

    def _read(self, category: str) -> dict[str, Json]:
        if category not in self._entries:
            path = self.package.questions / f"{self.package.prefix}_{category}.json"
            rows = read_rows(path, ("id", "question", "function"))
            self._entries[category] = {row["id"]: row for row in rows}
        return self._entries[category]

    def _answers(self, category: str) -> list[Json]:
        """The possible answers: the n-th belongs to the n-th question (ids may be spelled else)."""
        if category not in self._possible:
            path = self.package.answers / f"{self.package.prefix}_{category}.json"
            rows = read_rows(path, ("id", "ground_truth"))
            if len(rows) != len(self._read(category)):
                raise ValueError(
                    f"{path} has {len(rows)} answers for {len(self._read(category))} questions"
                )
            self._possible[category] = rows
        return self._possible[category]


def _language(category: str) -> str:
    if "javascript" in category:
        return "JavaScript"
    return "Java" if "java" in category else "Python"


def _relevant(category: str, called: bool, reason: str) -> Json:
    """Right is a call where one of the functions helps, and none where none does."""
    wanted = "irrelevance" not in category
    if called == wanted:
        return {"valid": True, "reason": "passed", "detail": ""}
    if wanted:
        return _no("no_call", reason or "an empty list of calls")
    return _no("needless_call", "a call where no function helps")


def _no(reason: str, detail: str) -> Json:
    line = " ".join(detail.split())
    return {"valid": False, "reason": reason, "detail": line[:DETAIL]}


def read_rows(path: Path, fields: tuple[str, ...]) -> list[Json]:
    """The lines of a data file, in the order of their ids' numbers.

    Raises `ValueError` that names each bad line: no JSON, a field missing, an id met before.
    """
    rows: dict[str, Json] = {}
    bad: list[str] = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                missing = [field for field in fields if field not in row]
                if missing:
                    raise ValueError(f"no {', '.join(missing)}")
                if row["id"] in rows:
                    raise ValueError(f"id {row['id']} for the second time")
                _number_of(row["id"])
                rows[row["id"]] = row
            except (ValueError, TypeError, AttributeError, IndexError) as error:
                bad.append(f"line {number}: {error}")
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise ValueError(f"{path}: {'; '.join(bad[:5])}{more}; mend the file")
    return sorted(rows.values(), key=lambda row: _number_of(row["id"]))


def _number_of(id: str) -> int:
    """12 of "live_simple_12-3-4"."""
    return int(id.rsplit("_", 1)[1].split("-", maxsplit=1)[0])


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    # Again every second: a bare `except:` may swallow the first one.
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _answer(bridge: Bridge, request: Json) -> Json:
    match request:
        case {"op": "groups"}:
            return bridge.groups()
        case {"op": "entries", "category": str(category)}:
            return bridge.entries(category)
        case {"op": "check", "id": str(id), "mode": str(mode), "answer": answer}:
            return bridge.check(id, mode, answer)
    raise ValueError(f"no such request: {sorted(request)}")


def main() -> None:
    """Serve until standard input ends."""
    requests, replies = sys.stdin, os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what bfcl-eval prints is no reply
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    bridge: Bridge | None = None
    for line in requests:
        try:
            if bridge is None:
                bridge = Bridge(Package(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
            reply = {"ok": _answer(bridge, json.loads(line))}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
