"""The paired test: against known values, and how often it cries wolf."""

import numpy as np
import pytest
from scipy import stats

from loopcoder.errors import RecordError
from loopcoder.eval.compare import compare, holm
from loopcoder.records.rows import AnswerRow, Source

SOURCE = Source(command="test", version="0", machine={}, time="2026-11-24T00:00:00+00:00")


def _rows(values: dict[str, list[float]], task: str = "t") -> list[AnswerRow]:
    return [
        AnswerRow(
            source=SOURCE, task=task, problem=p, sample=i, scores={"pass": v}, reason="", loops=1
        )
        for p, each in values.items()
        for i, v in enumerate(each, 1)
    ]


def test_mcnemar() -> None:
    """Nine problems that only A solves, two that only B does: two-sided binomial."""
    a = {f"p{i}": [float(i < 9)] for i in range(50)}
    b = {f"p{i}": [float(9 <= i < 11)] for i in range(50)}
    (found,) = compare(_rows(a), _rows(b))
    assert found.test == "McNemar, exact"
    assert found.p == pytest.approx(2 * stats.binom.cdf(2, 11, 0.5))
    assert (found.only_a, found.only_b, found.problems) == (9, 2, 50)
    assert found.difference == pytest.approx(7 / 50)
    assert found.low < found.difference < found.high


def test_several_answers_are_averaged_first() -> None:
    a = {f"p{i}": [1.0, 0.0] for i in range(12)}
    b = {f"p{i}": [0.0, 0.0] for i in range(12)}
    (found,) = compare(_rows(a), _rows(b))
    assert (found.test, found.a, found.b) == ("random signs", 0.5, 0.0)
    assert found.p < 0.01


def test_clusters_are_the_units() -> None:
    """Twenty problems in two functions: all for A, and yet no evidence."""
    a, b = ({f"p{i}": [x] for i in range(20)} for x in (1.0, 0.0))
    tied = [
        [row.model_copy(update={"cluster": str(i // 10)}) for i, row in enumerate(_rows(values))]
        for values in (a, b)
    ]
    (free,), (found,) = compare(_rows(a), _rows(b)), compare(*tied)
    assert free.p < 1e-4
    assert found.p >= 0.5
    assert found.difference == free.difference == 1.0


def test_alike_models_differ_seldom() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        skill = rng.random(40)
        a, b = ({f"p{i}": [float(x)] for i, x in enumerate(rng.random(40) < skill)} for _ in "ab")
        hits += compare(_rows(a), _rows(b), seed=seed)[0].p < 0.05
    assert hits <= 0.05 * 200  # the exact test keeps its promise, with room


def test_only_shared_problems_count() -> None:
    a, b = {"x": [1.0], "y": [1.0]}, {"y": [0.0], "z": [0.0]}
    (found,) = compare(_rows(a), _rows(b))
    assert (found.problems, found.unpaired) == (1, 2)


def test_nothing_in_common() -> None:
    with pytest.raises(RecordError, match="run the same tasks on both"):
        compare(_rows({"x": [1.0]}), _rows({"x": [1.0]}, task="other"))


def test_holm_never_makes_smaller() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.9]) == [1.0, 1.0]
