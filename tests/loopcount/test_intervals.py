"""What is called a difference: at most 5 of 100 times where there is none (docs/advice.md)."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from loopcoder.loopcount.intervals import Resamples, SeedVariance, ratio_estimate
from loopcoder.loopcount.losses import trained_sweep
from loopcoder.loopcount.sweep import Sweep
from loopcoder.records.rows import SampleRow
from tests.loopcount.rows import LN2, run_of, source

PAIRS = 1000


def _pair(chance: np.random.Generator, documents: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes, and the difference in bits of two models that differ by chance alone.

    Of a document a part grows with its length (its subject suits one model) and a part with the
    root of it (tokens).
    """
    sizes = np.exp(chance.normal(8, 1, documents))
    per_byte = chance.normal(0, 0.02, documents)
    per_token = chance.normal(0, 0.3, documents)
    return sizes, sizes * per_byte + np.sqrt(sizes) * per_token


@pytest.mark.parametrize("documents", [10, 30, 100])
def test_identical_models_are_called_different_at_most_50_times_in_1000(documents: int) -> None:
    chance, resamples = np.random.default_rng(7), Resamples(documents, 1999)
    called = 0
    for _ in range(PAIRS):
        sizes, bits = _pair(chance, documents)
        called += ratio_estimate(bits, sizes, resamples).called
    assert called <= 50
    assert called > 0  # else the interval is too wide to be one of 99 %


@pytest.mark.parametrize("documents", [30, 100])
def test_four_identical_models_have_a_difference_among_them_at_most_50_times_in_1000(
    documents: int,
) -> None:
    chance, resamples, called = np.random.default_rng(15), Resamples(documents, 1999), 0
    for _ in range(PAIRS):
        sizes, _ = _pair(chance, documents)
        four = Sweep(
            name="held-out loss",
            unit="bits per byte",
            of="documents",
            source="test",
            basis="measured",
            better=-1,
            totals={r: (sizes * 0.02 * chance.normal(size=(1, documents))) for r in (1, 2, 3, 4)},
            weights=sizes,
            resamples=resamples,
        )
        called += any(four.gain(a, b).called for a, b in combinations(four.loops, 2))
    assert called <= 50


@pytest.mark.parametrize(("documents", "least"), [(10, 0.5), (30, 0.75), (100, 0.85)])
def test_a_real_difference_is_called(documents: int, least: float) -> None:
    """Five standard errors, nearly always with many documents."""
    chance, resamples = np.random.default_rng(8), Resamples(documents, 1999)
    called = 0
    for _ in range(200):
        sizes, bits = _pair(chance, documents)
        error = np.sqrt((sizes**2 * 0.02**2 + sizes * 0.3**2).sum()) / sizes.sum()
        called += ratio_estimate(bits + 5 * error * sizes, sizes, resamples).called
    assert called / 200 >= least


def test_three_standard_errors_of_even_documents_are_called() -> None:
    """Documents alike in length, 100 of them: the interval is that of textbooks."""
    chance, resamples = np.random.default_rng(9), Resamples(100)
    differences = chance.normal(0, 1, 100)
    differences -= differences.mean()
    error = stats.sem(differences)
    assert ratio_estimate(differences + 3 * error, np.ones(100), resamples).called
    assert not ratio_estimate(differences + 2 * error, np.ones(100), resamples).called


def test_the_interval_of_even_documents_is_students() -> None:
    chance = np.random.default_rng(10)
    differences = chance.normal(0.3, 1, 200)
    found = ratio_estimate(differences, np.ones(200), Resamples(200))
    half = stats.t.ppf(0.975, 199) * stats.sem(differences)
    assert found.value == pytest.approx(differences.mean())
    assert found.low == pytest.approx(differences.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(differences.mean() + half, abs=0.15 * half)


def _windows(chance: np.random.Generator, name: str, loops: int, shared: np.ndarray) -> list:
    """30 documents of 16 windows; those of one document share what suits the model."""
    own = chance.normal(0, 0.05, 30)
    bits = shared + own[:, None] + chance.normal(0, 0.01, shared.shape)
    return [
        SampleRow.model_construct(
            source=source(name, loops),
            document=f"d{i}",
            start=j,
            tokens=63,
            bytes=200,
            loops=loops,
            nats=[9.0] * (loops - 1) + [200 * bits[i, j] * LN2],
            values={},
        )
        for i in range(30)
        for j in range(16)
    ]


def test_windows_of_one_document_are_not_counted_as_independent() -> None:
    """Summed by document they call few; the same windows as if independent, most."""
    chance = np.random.default_rng(11)
    called = pooled = 0
    runs = 60
    for _ in range(runs):
        shared = chance.normal(1.5, 0.2, (30, 16))
        pair = [_windows(chance, name, r, shared) for name, r in (("a", 1), ("b", 2))]
        sweep = trained_sweep([run_of(str(i), rows) for i, rows in enumerate(pair)], 999)
        assert sweep is not None
        assert sweep.units == 30
        called += sweep.gain(1, 2).called
        alone = np.array([b.nats[-1] - a.nats[-1] for a, b in zip(*pair, strict=True)])
        pooled += ratio_estimate(alone, np.ones(len(alone)), Resamples(len(alone), 999)).called
    assert called <= 4
    assert pooled >= runs / 3


def _seeds(chance: np.random.Generator, seeds: int) -> Sweep:
    """Two recipes that are the same, some seeds of each; what a seed gives differs a lot."""
    sizes = np.exp(chance.normal(8, 1, 50))
    totals = {
        r: sizes * (1.5 + chance.normal(0, 0.01, (seeds, 1)) + chance.normal(0, 0.01, (seeds, 50)))
        for r in (1, 2)
    }
    return Sweep(
        name="held-out loss",
        unit="bits per byte",
        of="documents",
        source="test",
        basis="measured",
        better=-1,
        totals=totals,
        weights=sizes,
        resamples=Resamples(50, 499),
    )


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_luck_of_seeds_is_not_called_a_difference(seeds: int) -> None:
    chance = np.random.default_rng(12)
    called = sum(_seeds(chance, seeds).gain(1, 2).called for _ in range(500))
    assert called <= 25


def test_one_seed_each_calls_luck_a_difference() -> None:
    """Why the advice says so: the interval holds documents alone."""
    chance = np.random.default_rng(13)
    assert sum(_seeds(chance, 1).gain(1, 2).called for _ in range(100)) >= 25


def test_equal_models_differ_by_nothing() -> None:
    found = ratio_estimate(np.zeros(20), np.ones(20), Resamples(20))
    assert (found.value, found.low99, found.high99, found.called) == (0, 0, 0, False)


def test_few_documents_have_an_interval_and_call_nothing() -> None:
    far = ratio_estimate(np.full(7, 5.0) + np.arange(7) / 100, np.ones(7), Resamples(7))
    assert far.low99 is not None
    assert far.low99 > 4
    assert not far.called
    assert ratio_estimate(np.ones(1), np.ones(1), Resamples(1)).low is None


def test_seed_variance_widens_and_never_narrows() -> None:
    chance = np.random.default_rng(14)
    values, ones = chance.normal(0, 1, 30), np.ones(30)
    alone = ratio_estimate(values, ones, Resamples(30))
    for variance in (0.0, 0.01, 1.0):
        both = ratio_estimate(values, ones, Resamples(30), SeedVariance(variance, 2))
        assert both.low99 <= alone.low99
        assert both.high99 >= alone.high99


def test_many_units_take_fewer_resamples() -> None:
    many = Resamples(20_000)
    assert many.count == 2500
    sums = many.sums(np.ones((20_000, 1)))
    assert sums.shape == (2500, 1)
    assert (sums == 20_000).all()
