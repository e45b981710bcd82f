"""What JSON could not say, said again."""

from typing import Any

import pytest

from loopcoder.eval.problems.mbpp import entry_point
from loopcoder.eval.problems.mbpp_inputs import RULES, restore


@pytest.mark.parametrize(
    ("number", "written", "meant"),
    [
        (3, [[1, [2]]], ([1, [2]],)),
        (2, [[1], [2]], ((1,), (2,))),
        (63, [[[1, 2], [3, 4]]], ([(1, 2), (3, 4)],)),
        (75, [[[1, 2]], 3], ([(1, 2)], 3)),
        (106, [[1], [2]], ([1], (2,))),
        (115, [[[1, 1], [], {}]], ([{1}, {}, {}],)),
        (124, ["1e-100", "(-0-1j)"], (1e-100, -1j)),
        (250, [[1, 2], 3], ((1, 2), 3)),
        (252, ["(3-4j)"], (3 - 4j,)),
        (259, [[[1, 2]], [[3, 4]]], (((1, 2),), ((3, 4),))),
        (278, [[1, [2, [3]]]], ((1, (2, [3])),)),
        (307, [[1, []], 1, 50], ((1, []), 1, 50)),
        (580, [[1, [2, [3]]]], ((1, (2, (3,))),)),
        (722, [{"a": [6.2, 70]}, 6.0, 70], ({"a": (6.2, 70)}, 6.0, 70)),
    ],
)
def test_each_rule(number: int, written: list[Any], meant: tuple[Any, ...]) -> None:
    restored = restore(number, written)
    assert repr(restored) == repr(meant)


def test_no_task_has_two_rules() -> None:
    assert len(RULES) == 62


@pytest.mark.parametrize(
    ("code", "tests", "name"),
    [
        ("def a():\n  pass\ndef b():\n  a()", ["assert b() == 1"], "b"),
        ("def a():\n  pass\ndef b():\n  pass", ["assert a(b()) == 1", "assert a(2)"], "a"),
        ("def f(x):\n  pass", ["assert set(f(sorted([1]))) == set()"], "f"),
        ("f = lambda x: x", ["assert round(f(1), 2) == 1"], "f"),
        ("this is no Python", ["assert f(1) == 1"], "f"),
        ("re = '\\d'\ndef f(x):\n  return '\\d'", ["assert f('\\d')"], "f"),
        ("def f(x):\n  pass", ["assert sorted([1]) == [1]"], None),
        ("def f(x):\n  pass", ["assert f(("], None),
    ],
)
def test_entry_point(code: str, tests: list[str], name: str | None) -> None:
    assert entry_point(code, tests) == name
