"""Running means against NumPy on the whole list, and intervals against scipy."""

import sys
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcoder.probes.spread import Moments, Spread, interval

numbers = st.floats(-1e6, 1e6)
CLOSE = 1e-9  # beside the largest value


@settings(deadline=None)
@given(st.lists(numbers, min_size=1, max_size=60))
def test_moments_are_numpys(values: list[float]) -> None:
    moments = Moments()
    for value in values:
        moments.add(np.asarray(value))
    tolerance = CLOSE * max(1.0, *map(abs, values))
    assert moments.n == len(values)
    assert moments.mean == pytest.approx(np.mean(values), abs=tolerance)
    if len(values) == 1:
        assert moments.sd is None
    else:
        assert moments.sd == pytest.approx(np.std(values, ddof=1), abs=tolerance)


def test_moments_of_a_small_spread_around_a_large_mean() -> None:
    """Where the mean of squares would lose every digit."""
    moments = Moments()
    for value in (1e9 + 1, 1e9 + 2, 1e9 + 3):
        moments.add(np.asarray(value))
    assert moments.sd == pytest.approx(1.0, abs=1e-6)


def test_arrays_are_taken_element_by_element() -> None:
    values = np.random.default_rng(0).standard_normal((9, 2, 3))
    spread = Spread()
    for i, value in enumerate(values):
        spread.add(str(i), value)
    np.testing.assert_allclose(spread.samples.mean, values.mean(0), atol=1e-12)
    np.testing.assert_allclose(spread.samples.sd, values.std(0, ddof=1), atol=1e-12)
    low, high = interval(spread.documents())
    half = scipy.stats.t.ppf(0.975, 8) * scipy.stats.sem(values, axis=0)
    np.testing.assert_allclose(low, values.mean(0) - half, atol=1e-12)
    np.testing.assert_allclose(high, values.mean(0) + half, atol=1e-12)


@settings(deadline=None)
@given(st.lists(numbers, min_size=2, max_size=40).filter(lambda v: np.std(v) > 1e-6))
def test_the_interval_is_students(values: list[float]) -> None:
    spread = Spread()
    for i, value in enumerate(values):
        spread.add(str(i), value)
    found = interval(spread.documents())
    expected = scipy.stats.t.interval(
        0.95, len(values) - 1, loc=np.mean(values), scale=scipy.stats.sem(values)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=CLOSE * max(map(abs, values)))


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    """Of 2,000 draws of 5, 95 % +- 1.5 % (three standard errors)."""
    chance, held = np.random.default_rng(0), 0
    for draw in chance.standard_normal((2000, 5)):
        moments = Moments()
        for value in draw:
            moments.add(value)
        low, high = interval(moments)
        held += bool(low <= 0 <= high)
    assert abs(held / 2000 - 0.95) < 0.015


def test_windows_of_one_document_are_one_unit() -> None:
    spread, clustered = Spread(), [("a", [1.0, 2.0, 6.0]), ("b", [5.0]), ("c", [1.0, 3.0])]
    for document, values in clustered:
        for value in values:
            spread.add(document, value)
    means = [np.mean(values) for _, values in clustered]
    documents = spread.documents()
    assert (spread.samples.n, documents.n) == (6, 3)
    assert documents.mean == pytest.approx(np.mean(means))
    half = scipy.stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / np.sqrt(3)
    assert interval(documents) == pytest.approx((np.mean(means) - half, np.mean(means) + half))
    everything = [value for _, values in clustered for value in values]
    assert spread.samples.sd == pytest.approx(np.std(everything, ddof=1))


def test_repeating_the_windows_of_a_document_makes_nothing_surer() -> None:
    once, thrice = Spread(), Spread()
    for document, value in (("a", 1.0), ("b", 2.0), ("c", 4.0)):
        once.add(document, value)
        for _ in range(3):
            thrice.add(document, value)
    np.testing.assert_allclose(interval(once.documents()), interval(thrice.documents()))


def test_one_document_has_no_interval() -> None:
    spread = Spread()
    for value in (1.0, 2.0, 3.0):
        spread.add("a", value)
    assert interval(spread.documents()) == (None, None)
    assert interval(spread.documents()) == (None, None)  # asking again counts nothing twice
    assert spread.documents().n == 1
    assert spread.samples.sd == pytest.approx(1.0)


def test_the_state_is_as_large_after_1000_samples_as_after_10() -> None:
    spread, value = Spread(), np.ones((4, 4))
    sizes = {}
    tracemalloc.start()
    for i in range(1000):
        spread.add(str(i // 3), value * i)
        if i + 1 in (10, 1000):
            sizes[i + 1], _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    one = sys.getsizeof(value)
    assert sizes[1000] - sizes[10] < 5 * one  # 990 samples, of which not five may be there
