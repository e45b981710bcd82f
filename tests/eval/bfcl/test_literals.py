"""What an answer's arithmetic may do: compute with literals, and nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcoder.eval.bfcl.bridge import literal_value

numbers = st.one_of(st.integers(-99, 99), st.floats(-9, 9, allow_nan=False)).map(repr)
texts = st.text("ab", max_size=3).map(repr)
expressions = st.recursive(
    st.one_of(numbers, texts),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "|"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        inner.map(lambda text: f"-({text})"),
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(expressions)
def test_is_what_python_says(source: str) -> None:
    try:
        expected = eval(source)
    except Exception as error:
        with pytest.raises(type(error)):
            literal_value(source)
    else:
        assert repr(literal_value(source)) == repr(expected)


@pytest.mark.parametrize(
    "source",
    [
        "__import__('os').getpid() + 1",
        "open('/etc/passwd').read() + ''",
        "(lambda: 1)() + 1",
        "[x for x in (1,)] + []",
        "len('ab') + 1",
        "f'{1}' + ''",
        "a + 1",
        "(1).real + 1",
        "'%s' % 1",
        "9 ** 9 ** 9",
        "10 ** 100000",
        "2.5 ** 3 ** 100000",
        "1 << 10 ** 9",
        "'a' * 10 ** 9",
        "10 ** 9 * [0]",
        "('a' * 60000) * 60000",
    ],
)
def test_everything_else_is_refused_at_once(source: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        literal_value(source)


def test_a_long_sum_is_one() -> None:
    assert literal_value("+".join(["1"] * 200)) == 200
