"""Each task solved from its text alone, by other means than its generator: steps and answer."""

import re
from collections.abc import Callable

OPENS, CLOSES = "([{", ")]}"
COUNT = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def solve_chains(statement: str, ask: str) -> tuple[str, str]:
    """Run the copies in order, then go back from name to name."""
    pairs = re.findall(r"([a-zA-Z])([a-zA-Z0-9]),", statement.removesuffix(":"))
    value: dict[str, str] = {}
    for target, source in pairs:
        assert target not in value
        value[target] = value[source] if source.isalpha() else source
    steps, at = "", dict(pairs)[ask]
    while at.isalpha():
        steps, at = steps + at, dict(pairs)[at]
    assert at == value[ask]
    return steps, value[ask]


def solve_brackets(statement: str, ask: str) -> tuple[str, str]:
    assert not statement
    stack, steps = "", ""
    for bracket in ask:
        if bracket in OPENS:
            stack += bracket
        else:
            assert stack[-1] == OPENS[CLOSES.index(bracket)], "closed by its own kind"
            stack = stack[:-1]
        steps += COUNT[len(stack)]
    return steps, CLOSES[OPENS.index(stack[-1])]


def solve_programs(statement: str, ask: str) -> tuple[str, str]:
    """Run the program; the steps are the values on the way to `ask`, found from its end."""
    lines = re.findall(r"([a-f])([a-f]?)([-+*]?)(\d),", statement)
    assert "".join("".join(line) + "," for line in lines) + ":" == statement
    value: dict[str, int] = {}
    after = []
    for target, source, sign, number in lines:
        value[target] = eval(f"({value[source] if source else ''}{sign}{number}) % 5")
        after.append(value[target])
    way = on_the_way(statement, ask)
    return "".join(str(after[line]) for line in way[:-1]), str(value[ask])


def on_the_way(statement: str, ask: str) -> list[int]:
    """Lines with an operation that the last value of `ask` comes through, first to last."""
    lines = re.findall(r"([a-f])([a-f]?)([-+*]?)(\d),", statement)
    way: list[int] = []
    for line in reversed(range(len(lines))):
        target, source, _, _ = lines[line]
        if target == ask and source:
            way.insert(0, line)
            ask = source
        elif target == ask:
            break
    return way


def solve_arithmetic(statement: str, ask: str) -> tuple[str, str]:
    assert not statement
    pieces = re.findall(r"[-+*]\d", ask)
    values = []
    for count in range(1, len(pieces) + 1):  # brackets around all that stands left
        text = "(" * count + ask[0] + "".join(f"{piece})" for piece in pieces[:count])
        values.append(str(eval(text) % 5))
    return "".join(values[:-1]), values[-1]


def solve_induction(statement: str, ask: str) -> tuple[str, str]:
    """The definition read word for word: the latest place whose letter before is this letter."""
    assert not statement
    count, text = ask.split("|")
    place, letters = len(text) - 1, ""
    for _ in range(COUNT.index(count)):
        place = max(j for j in range(1, place + 1) if text[j - 1] == text[place])
        letters += text[place]
    return letters[:-1], letters[-1]


SOLVERS: dict[str, Callable[[str, str], tuple[str, str]]] = {
    "chains": solve_chains,
    "brackets": solve_brackets,
    "programs": solve_programs,
    "arithmetic": solve_arithmetic,
    "induction": solve_induction,
}
