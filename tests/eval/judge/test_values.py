import collections
import contextlib
import decimal
import enum
import fractions
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcoder.eval.judge.values import (
    MAX_DEPTH,
    SUBCLASSES,
    Digest,
    Opaque,
    ValuesError,
    dump,
    load,
    pack,
    unpack,
)


def there_and_back(value):
    return unpack(load(dump({"value": pack(value)}))["value"])


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(), max_size=8)
    | st.binary(max_size=8)
    | st.complex_numbers(allow_nan=False)
    | st.decimals(allow_nan=False)
    | st.fractions()
)
HASHABLE = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
VALUES = st.recursive(
    HASHABLE | st.frozensets(HASHABLE, max_size=3) | st.sets(HASHABLE, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.lists(inner, max_size=3).map(collections.deque)
    ),
    max_leaves=8,
)


def same(one, other):
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple | collections.deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return one == other


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_plain_values_arrive_as_they_left(value):
    assert same(there_and_back(value), value)


@pytest.mark.parametrize(
    "value",
    [
        10**5000,
        -(2**63),
        2**63,
        [1, -0.0, True, 2**70],
        "\ud800",
        bytearray(b"\0\xff"),
        range(3, 9, 2),
        collections.Counter("abca"),
        collections.OrderedDict([("b", 1), ("a", 2)]),
        {1: {2.5: ()}},
        decimal.Decimal("-0.10"),
        fractions.Fraction(-1, 3),
        [math.inf, -math.inf],
    ],
    ids=lambda value: type(value).__name__,
)
def test_rarer_values_arrive_as_they_left(value):
    assert same(there_and_back(value), value)


def test_a_nan_and_views_and_iterators_arrive():
    assert math.isnan(there_and_back([math.nan])[0])
    assert there_and_back({1: 2}.keys()) == {1}
    assert there_and_back(collections.defaultdict(list, a=[1])) == {"a": [1]}
    for lazy in (iter([1, 2]), (i for i in (1, 2)), map(abs, [1, -2]), {0: 1, 1: 2}.values()):
        assert list(there_and_back(lazy)) == [1, 2]


def test_an_endless_iterator_is_opaque():
    assert isinstance(there_and_back(x for x in iter(int, 1)), Opaque)


def test_an_opaque_value_equals_nothing():
    opaque = there_and_back(object())
    assert opaque is not None
    assert opaque != opaque
    assert opaque != there_and_back(object())
    assert opaque.kind == "builtins.object"


@pytest.mark.parametrize("base", [int, float, complex, str, bytes, list, tuple, set, dict])
def test_a_subclass_leaves_its_behaviour_behind(base):
    liar = type("Liar", (base,), {"__eq__": lambda *_: True, "__hash__": lambda _: 0})
    arrived = there_and_back(liar())
    assert type(arrived) is SUBCLASSES[base.__name__]
    assert arrived == base()
    assert arrived != object()


def test_an_enum_of_ints_is_its_int():
    assert there_and_back(enum.IntEnum("Colour", ["RED"]).RED) == 1


def test_a_large_value_is_compared_by_its_content(monkeypatch):
    monkeypatch.setattr("loopcoder.eval.judge.values.MAX_SIZE", 1000)
    large = [("a" * 100,)] * 20
    assert isinstance(there_and_back(large), Digest)
    assert there_and_back(large) == there_and_back([("a" * 100,) for _ in range(20)])
    assert there_and_back(large) != there_and_back([*large[1:], ("b" * 100,)])
    with pytest.raises(ValuesError, match="too large"):
        pack([*large, object()])


def test_a_cycle_and_a_deep_value_are_refused():
    cycle = []
    cycle.append(cycle)
    with pytest.raises(ValuesError, match="deep"):
        pack(cycle)
    deep = 0
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert there_and_back(deep) == deep
    with pytest.raises(ValuesError, match="deep"):
        pack([deep])


HOSTILE = [
    b"",
    b"\xff",
    b"[]",
    b"{",
    b'{"a": NaN}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"value": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("line", HOSTILE, ids=lambda line: repr(line[:12]))
def test_bytes_that_are_no_message_raise_one_error(line):
    with pytest.raises(ValuesError):
        load(line)


TREES = [
    {},
    {"int": 3},
    {"int": "x"},
    {"set": [[]]},
    {"set": [{"list": []}]},
    {"dict": [[1]]},
    {"dict": 3},
    {"dict": [[[], 1]]},
    {"fraction": [1, 0]},
    {"fraction": ["1", 2]},
    {"fraction": [{"int": "1" + "0" * 9999}, 3]},
    {"range": [0, 1, 0]},
    {"complex": [1, 2]},
    {"decimal": "one"},
    {"sub": ["int", "text"]},
    {"sub": []},
    {"tuple": {"a": 1}},
    {"pickle": "gASV"},
    {"unknown": []},
    {"int": "1", "float": "1"},
]


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: json.dumps(tree)[:30])
def test_trees_that_are_no_value_raise_one_error(tree):
    with pytest.raises(ValuesError):
        unpack(tree)


def test_keys_that_all_collide_are_refused_in_time(monkeypatch):
    monkeypatch.setattr("loopcoder.eval.judge.values.MAX_HASHING", 0.01)
    modulus = 2**61 - 1
    keys = [{"int": format(modulus * index, "x")} for index in range(1, 3000)]
    with pytest.raises(ValuesError, match="collide"):
        unpack({"set": keys})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["int", "set", "dict", "sub", "range", "fraction", "counter", "x"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json_is_a_value_or_an_error(tree):
    with contextlib.suppress(ValuesError):
        unpack(tree)
