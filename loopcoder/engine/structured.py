"""From `StructuredOutputsParams` to a grammar for llguidance, and whether it is any good. No torch.

JSON is written with at most one space behind a comma or colon, so that a text cannot go on in
blanks for ever, and with no escape for a character that needs none: a key has one spelling.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from loopcoder.errors import RequestError
from loopcoder.types import StructuredOutputsParams

if TYPE_CHECKING:
    from llguidance import LLParserLimits

# What llguidance may spend. With its own limits one token of an ambiguous grammar took 2 s, and a
# text may hold 200 MB of lexer states; with these the worst token took 0.07 s, and it is 40 MB.
LIMITS: dict[str, Any] = {
    "max_items_in_row": 1_000,
    "step_max_items": 20_000,
    "step_lexer_fuel": 100_000,
    "max_lexer_states": 50_000,
    "verbose_errors": False,
}
_OPTIONS = "x-guidance"
_STYLE = {
    "whitespace_flexible": False,
    "whitespace_pattern": None,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "json_allowed_escapes": 'nrbtf\\"',
    "json_allow_general_unicode_escapes": False,
}
_SHOWN = 200  # characters of the library's message


def check_grammar(params: StructuredOutputsParams) -> str:
    """The grammar as llguidance reads it. Takes milliseconds, so call it in a thread.

    Raises `RequestError`, one line, for one that is not valid. Whether compiling it for a
    vocabulary comes to an end in reasonable time is another question.
    """
    text = grammar_text(params)
    from llguidance import LLMatcher

    wrong, messages = LLMatcher.validate_grammar_with_warnings(text, limits=parser_limits())
    if wrong:
        raise refused(params, messages[0])
    return text


def grammar_text(params: StructuredOutputsParams) -> str:
    """The same without a look at whether it is valid, but for text and JSON that cannot be read."""
    require_llguidance()
    try:
        return _written(params)
    except UnicodeEncodeError as error:
        raise RequestError(
            "the structured output's regex, choice or grammar has half of a surrogate pair, which "
            "is no character; leave it out"
        ) from error


def _written(params: StructuredOutputsParams) -> str:
    from llguidance import LLMatcher

    if params.regex is not None:
        return LLMatcher.grammar_from_regex(params.regex)
    if params.grammar is not None:
        return LLMatcher.grammar_from_lark(params.grammar)
    if params.choice:
        options = " | ".join(json.dumps(text, ensure_ascii=False) for text in params.choice)
        return LLMatcher.grammar_from_lark(f"start: {options}")
    wanted = {"type": "object"} if params.json_object else params.json
    return LLMatcher.grammar_from_json_schema(json_schema(wanted))


def json_schema(schema: Mapping[str, Any] | str | None) -> str:
    """A JSON schema as llguidance takes it, with how the JSON is to be written.

    Of the schema's own `x-guidance`, `lenient` and `coerce_one_of` are kept. Raises `RequestError`
    for one that is no JSON object.
    """
    try:
        parsed = json.loads(schema) if isinstance(schema, str) else schema
        if parsed is True:  # the schema of any value
            parsed = {}
        if not isinstance(parsed, Mapping):
            raise RequestError(f"a JSON schema is {shortened(parsed)}; it must be an object")
        own = parsed.get(_OPTIONS)
        given = own if isinstance(own, Mapping) else {}
        kept = {name: given[name] for name in ("lenient", "coerce_one_of") if name in given}
        return json.dumps({**parsed, _OPTIONS: {**kept, **_STYLE}}, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(
            f"a JSON schema cannot be read: {error}; give valid JSON, nested less deeply"
        ) from error


def enforceable(schema: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """A schema of which, unless `strict`, what llguidance cannot enforce is passed over.

    Strict ones with such a part are refused by `check_grammar`.
    """
    kept = {name: value for name, value in schema.items() if name != _OPTIONS}
    return kept if strict else {**kept, _OPTIONS: {"lenient": True}}


def require_llguidance() -> None:
    """Raise `RequestError` where the library is not installed."""
    if find_spec("llguidance") is None:
        raise RequestError(
            'structured outputs need llguidance; install it with pip install "loopcoder[serve]"'
        )


def parser_limits() -> "LLParserLimits":
    """`LIMITS` as the library's object."""
    from llguidance import LLParserLimits

    return LLParserLimits(**LIMITS)


def refused(params: StructuredOutputsParams, message: str) -> RequestError:
    """The error for a grammar about which llguidance says `message`."""
    names = {"regex": params.regex, "grammar": params.grammar, "choice": params.choice or None}
    kind = next((name for name, value in names.items() if value is not None), "JSON schema")
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["not valid"]
    cause = next((line for line in lines[1:] if line.startswith("error:")), "")
    shown = " ".join(filter(None, [lines[0], cause]))
    return RequestError(
        f"the {kind} of the structured output cannot be enforced: {shown[:_SHOWN]}; change that "
        "part or leave it out"
    )


def shortened(value: object) -> str:
    """A value for an error message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
