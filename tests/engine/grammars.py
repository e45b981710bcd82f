"""Schemas, and a grammar over single bytes, for the tests of structured outputs."""

from typing import Any

from loopcoder.engine.grammar import Grammar, Grammars
from loopcoder.types import StructuredOutputsParams
from tests.small import byte_tokenizer

TOKENIZER = byte_tokenizer()

END = 2  # which spells "#": it must be able to stand in a string only where it ends nothing

WORD = {"type": "string", "maxLength": 6}

SMALL = {"type": "integer", "minimum": -5, "maximum": 120}

# Bounded, so that any model comes to an end within some 150 bytes.
SCHEMAS: dict[str, Any] = {
    "types": {
        "type": "object",
        "properties": {"s": WORD, "b": {"type": "boolean"}, "z": {"type": "null"}, "i": SMALL},
        "required": ["s", "b", "z", "i"],
        "additionalProperties": False,
    },
    "nested": {
        "type": "object",
        "properties": {
            "a": {
                "type": "object",
                "properties": {"b": {"type": "object", "properties": {"c": SMALL}}},
                "required": ["b"],
                "additionalProperties": False,
            }
        },
        "required": ["a"],
        "additionalProperties": False,
    },
    "enum": {"enum": ["red", 3, None, {"k": [1, 2.5]}, 'a "quote"', "back\\slash\n"]},
    "array": {"type": "array", "items": SMALL, "minItems": 2, "maxItems": 5},
    "tuple": {"type": "array", "prefixItems": [SMALL, WORD], "items": False, "minItems": 2},
    "ref": {
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {
                    "v": {"enum": [0, 1]},
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/leaf"}, "maxItems": 2},
                },
                "required": ["v"],
                "additionalProperties": False,
            },
            "leaf": {"anyOf": [{"type": "null"}, {"const": "leaf"}]},
        },
        "$ref": "#/$defs/tree",
    },
    "optional": {
        "type": "object",
        "properties": {name: {"enum": [1, 2]} for name in "abcdefgh"},
        "required": ["c"],
        "additionalProperties": False,
    },
    "unicode": {
        "type": "object",
        "properties": {"größe\U0001f600": {"enum": ["é", "日本", "\U0001f600"]}},
        "required": ["größe\U0001f600"],
        "additionalProperties": False,
    },
    "numbers": {
        "type": "object",
        "properties": {
            "n": {"type": "number", "minimum": 0.5, "maximum": 7.25},
            "x": {"type": "integer", "exclusiveMinimum": 3, "multipleOf": 7, "maximum": 999},
        },
        "required": ["n", "x"],
        "additionalProperties": False,
    },
    "pattern": {"type": "string", "pattern": "^[a-f]{2,4}-\\d{2}$"},
    "format": {"type": "string", "format": "date"},
    "union": {"anyOf": [SMALL, {"type": "array", "items": WORD, "maxItems": 2}]},
    "map": {
        "type": "object",
        "properties": {"a": {"const": 1}},
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 3,
        "required": ["a"],
    },
}


def bare_grammar(wanted: StructuredOutputsParams, *, end: bool = True) -> Grammar:
    """The grammar at its start, over `TOKENIZER`."""
    compiled = Grammars(TOKENIZER, [END]).compile(wanted)
    assert compiled is not None
    return compiled.copy(end=end)


def takes(grammar: Grammar, text: str) -> bool:
    """Whether the grammar lets the text pass byte by byte, and it may end there."""
    for token in TOKENIZER(text)["input_ids"]:
        if not grammar.allowed(256)[token]:
            return False
        grammar.accept(token)
    return grammar.finished or bool(grammar.allowed(256)[END])
