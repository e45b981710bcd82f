import math

import pytest

from loopcoder.eval.judge.oracles import ORACLES, Comparison
from loopcoder.eval.judge.values import Opaque, pack, unpack


def accepts(got, expected, *, atol=0.0, oracle=None, arguments=()):
    return Comparison(atol, oracle).accepts(arguments, got, expected)


@pytest.mark.parametrize(
    ("got", "expected", "right"),
    [
        (1, 1, True),
        (True, 1, True),
        (1.0, 1, True),
        (1 + 1e-9, 1, False),  # no floats are expected
        (0.1 + 0.2, 0.3, True),
        (0.3 + 1e-5, 0.3, False),
        (3, 3.0000001, False),  # another type, and not equal
        ([0.1 + 0.2], [0.3], True),
        ([0.3, 1.0], [0.3], False),
        ((0.3 + 1e-9,), [0.3], False),
        ([0.3 + 1e-9, 1], [0.3, 1], False),  # not all floats
        (math.nan, math.nan, False),
        (math.inf, math.inf, True),
        ("a", 0.5, False),
        (None, 0.5, False),
        (Opaque("x"), 0.5, False),
        ({1, 2}, {2, 1}, True),
    ],
)
def test_equal_or_close(got, expected, right):
    assert accepts(got, expected) is right


def test_the_tolerance_of_floats_stays():
    compare = Comparison(0.0, None)
    assert not compare.accepts((), 10**9 + 1, 10**9)
    assert compare.accepts((), 0.5, 0.5)
    assert compare.accepts((), 10**9 + 1, 10**9)


def test_a_set_tolerance_is_absolute():
    assert accepts(3.00005, 3.0, atol=1e-4)
    assert not accepts(3.0002, 3.0, atol=1e-4)


@pytest.mark.parametrize(
    ("oracle", "arguments", "got", "expected", "right"),
    [
        ("any", (), "whatever", 3, True),
        ("or_zero", (), 0, 6, True),
        ("or_zero", (), 1, 6, False),
        ("surface_area", (3, 4), 35, 33, True),
        ("surface_area", (3, 4), 34, 33, False),
        ("surface_area", (3, 4), "35", 33, False),
        ("digit_distance", (23, 156), 1 + 3 + 3, 0, True),
        ("set", (), (2, 1, 1), [1, 2], True),
        ("set", (), [1], [1, 2], False),
        ("set", (), 3, [1, 2], False),
        ("not_none", (), Opaque("re.Match"), Opaque("re.Match"), True),
        ("not_none", (), None, Opaque("re.Match"), False),
        ("not_none", (), None, None, True),
        ("not_none", (), False, None, True),
        ("root", ([-6, 11, -6, 1],), 2.0, 1.0, True),
        ("root", ([-6, 11, -6, 1],), 2.5, 1.0, False),
        ("root", ([-6, 11, -6, 1],), None, 1.0, False),
        ("root", ([-6, 11, -6, 1],), 10**400, 1.0, False),
    ],
)
def test_problems_with_several_right_answers(oracle, arguments, got, expected, right):
    assert accepts(got, expected, atol=1e-4, oracle=oracle, arguments=arguments) is right


def test_a_subclass_is_equal_but_not_close():
    number = type("Number", (float,), {})
    assert accepts(unpack(pack(number(0.5))), 0.5)
    assert not accepts(unpack(pack(number(0.1 + 0.2))), 0.3)


def test_an_unknown_oracle_is_refused():
    assert "root" in ORACLES
    with pytest.raises(ValueError, match="'near'"):
        Comparison(0.0, "near")
