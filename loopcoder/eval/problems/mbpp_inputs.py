"""MBPP+ keeps its inputs as JSON, which has no tuples, sets or complex numbers: giving them back.

Which task takes what is EvalPlus 0.3.1's (`evalplus.data.mbpp`); a task not listed takes its inputs
as JSON gives them.
"""

from collections.abc import Callable
from typing import Any

Convert = Callable[[Any], Any]


def restore(number: int, arguments: list[Any]) -> tuple[Any, ...]:
    """The arguments of one call of the MBPP task of that number."""
    rule = RULES.get(number)
    return tuple(arguments) if rule is None else tuple(rule(arguments))


def _each(convert: Convert) -> Convert:
    """The same of every item; of a list of arguments: of every argument."""
    return lambda items: [convert(item) for item in items]


def _tuple_of(convert: Convert) -> Convert:
    return lambda items: tuple(convert(item) for item in items)


def _first(*converts: Convert) -> Convert:
    """One for each of the first arguments; those behind them stay."""
    count = len(converts)
    return lambda arguments: [
        *(convert(argument) for convert, argument in zip(converts, arguments, strict=False)),
        *arguments[count:],
    ]


def _same(value: Any) -> Any:
    return value


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


def _if_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _set(value: Any) -> Any:
    # An empty list stands for {}, which is a dictionary; the task counts empty ones.
    return set(value) if isinstance(value, list) and value else {}


def _values(value: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(item) for key, item in value.items()}


_TABLE: tuple[tuple[str, Convert], ...] = (
    (
        "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809",
        _each(tuple),
    ),
    ("63 64 70 94 120 237 272 299 400 409 417 438 473 614 780", _each(_each(tuple))),
    ("75 413 444 753", _first(_each(tuple))),
    ("106 750", _first(_same, tuple)),
    ("115", _first(_each(_set))),
    ("124", _first(float, complex)),
    ("250 307 405 446 617 720 763 808", _first(tuple)),
    ("252", _first(complex)),
    ("259 401 445", _each(_tuple_of(tuple))),
    ("278", _each(_tuple_of(_if_list))),
    ("580 615 791", _deep),
    ("722", _first(_values)),
)
RULES: dict[int, Convert] = {int(n): rule for numbers, rule in _TABLE for n in numbers.split()}
