"""Numbers and names as the page writes them."""

import math

import pytest

from loopcoder.report.numbers import (
    amount,
    duration,
    files,
    formula,
    interval,
    listed,
    number,
    sentence,
    signed,
    visible,
    with_interval,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.41, "0.410"),
        (0.0471, "0.0471"),
        (-0.72, "\u22120.720"),
        (9.0, "9"),
        (1014.0, "1,014"),
        (22.35, "22.4"),
        (0.0, "0"),
        (3.1e-7, "3.10 \u00d7 10\u207b\u2077"),
        (4.2e11, "4.20 \u00d7 10\u00b9\u00b9"),
        (None, "\u2013"),
        (math.inf, "inf"),
    ],
)
def test_numbers_have_three_digits(value: float | None, expected: str) -> None:
    assert number(value) == expected


def test_differences_show_their_sign() -> None:
    assert [signed(v) for v in (7.5, -7.5, 0.0)] == ["+7.50", "\u22127.50", "0"]


def test_intervals_are_words() -> None:
    assert interval(-0.5, 0.25) == "\u22120.500 to 0.250"
    assert interval(None, 1.0) == "\u2013"
    assert with_interval(2.0, 1.5, 2.5) == "2 (1.50 to 2.50)"
    assert with_interval(2.0, None, None) == "2"


def test_lists_read_as_english() -> None:
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_sentences_begin_and_end() -> None:
    assert sentence("gain -0.2 (99 %: -0.4 to 0.1)") == "Gain \u22120.2 (99 %: \u22120.4 to 0.1)."
    assert sentence("r2/probe.jsonl: old") == "r2/probe.jsonl: old."
    assert sentence("arXiv 2606-1, pre-norm") == "ArXiv 2606-1, pre-norm."


def test_formulas_have_raised_and_lowered_letters() -> None:
    assert (
        formula("|h^{r-1}_t - h^{r-1}_{t-1}|")
        == "|h\u02b3\u207b\u00b9\u209c - h\u02b3\u207b\u00b9\u209c\u208b\u2081|"
    )
    assert formula("KL(p^r | p^{r-1})") == "KL(p\u02b3 | p\u02b3\u207b\u00b9)"
    assert formula("A_global") == "A_global"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b\tc\n", "a b\tc\n"),
        ("\x00", "\u27e8U+0000\u27e9"),
        ("a\u202eb", "a\u27e8U+202E\u27e9b"),
        ("\u2028", "\u27e8U+2028\u27e9"),
        ("\u200d", "\u27e8U+200D\u27e9"),
        ("\U0001f469\u200d\U0001f4bb", "\U0001f469\u200d\U0001f4bb"),
        ("\udcff", "\u27e8U+DCFF\u27e9"),
        ("\ufffd", "\ufffd"),
        ("\u0639", "\u0639"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, expected: str) -> None:
    assert visible(text) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [(0.0036, "s", "3.60 ms"), (57_344, "B", "57.3 kB"), (1.2e15, "FLOP", "1.20 PFLOP")],
)
def test_amounts_have_a_prefix(value: float, unit: str, expected: str) -> None:
    assert amount(value, unit) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.5, "500 ms"), (90.0, "90 s"), (1500.0, "25 min"), (9e4, "25 h")]
)
def test_durations_have_the_unit_of_speech(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_of_many_files_the_first_are_named() -> None:
    assert files("a, b, c", "measured") == "a, b, c"
    assert files("a, b, c, d", "measured") == "a, b and 2 more files"
    assert files("A paper, arXiv 1, table 2, column 3", "published").endswith("column 3")
