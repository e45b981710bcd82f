"""Arms beside the main arm: differences with known answers, and what their intervals are over."""

import numpy as np
import pytest
from scipy import stats

from loopcoder.loopcount import ArmDifference, arm_differences, studies
from loopcoder.loopcount.intervals import Resamples, ratio_estimate, share_interval
from loopcoder.records.rows import AnyRow
from tests.loopcount.rows import bits_of, samples, text_sizes
from tests.loopcount.study import answers, depth, evidence_of, source_of, training


def _found(*files: list[AnyRow]) -> list[ArmDifference]:
    (study,) = studies(evidence_of({f"{i}.jsonl": rows for i, rows in enumerate(files)}))
    return arm_differences(study)


def test_over_seeds_it_is_students_t() -> None:
    main = [[training("plt", 2, i, bits)] for i, bits in enumerate((1.40, 1.42))]
    arm = [[training("serial", 2, i, bits, main=False)] for i, bits in enumerate((1.36, 1.38))]
    (found,) = _found(*main, *arm)
    assert (found.arm, found.loops, found.measure) == ("serial", 2, "bits per byte")
    assert (found.level, found.main_level) == pytest.approx((1.37, 1.41))
    assert (found.models, found.main_models, found.counted) == (2, 2, "seeds")
    assert found.difference.value == pytest.approx(-0.04)
    t = stats.ttest_ind([1.36, 1.38], [1.40, 1.42]).confidence_interval()
    assert (found.difference.low, found.difference.high) == pytest.approx((t.low, t.high))


def test_one_seed_each_has_no_interval() -> None:
    (found,) = _found([training("plt", 2, 0, 1.4)], [training("serial", 2, 0, 1.3, main=False)])
    assert found.difference.value == pytest.approx(-0.1)
    assert (found.difference.low, found.counted) == (None, "")


def test_with_probes_it_is_paired_over_documents() -> None:
    """Documents differ by far more than the arms do."""
    sizes = text_sizes(30)
    levels = np.random.default_rng(0).normal(1.5, 0.4, 30)[:, None]
    files: list[list[AnyRow]] = []
    for arm, worse in (("plt", 0.0), ("no-gate", 0.05)):
        main = arm == "plt"
        bits = bits_of(sizes, [1.0, 0.0], 0.005, len(arm)) + sizes[:, None] * (levels + worse)
        where = source_of(arm, 2, 0, main=main)
        files += [[training(arm, 2, 0, 9.9, main=main)], samples(where, bits, sizes)]
    (found,) = _found(*files)
    assert found.counted == "30 documents"
    assert found.difference.value == pytest.approx(0.05, abs=0.01)
    assert found.difference.low is not None
    assert 0.03 < found.difference.low < 0.05
    assert found.level < 3  # of the probe's documents, not 9.9


def test_depth_tasks_are_paired_over_questions() -> None:
    """Of 400 questions the arm gets right all that the main arm does, and 40 more."""
    base = answers([0.5] * 4)
    better = [line.replace("0", "1", 10) for line in base]
    files = [
        [training("plt", 2, 0, 1.4), depth("plt", 2, 0, "chains", "direct", base)],
        [
            training("own-kv", 2, 0, 1.4, main=False),
            depth("own-kv", 2, 0, "chains", "direct", better, main=False),
        ],
    ]
    found = {each.measure: each for each in _found(*files)}["direct"]
    assert (found.level, found.main_level) == pytest.approx((60, 50))
    assert found.difference.value == pytest.approx(10)
    assert found.counted == "400 questions"
    error = 100 * np.sqrt(0.1 * 0.9 / 400)
    assert found.difference.low == pytest.approx(10 - 1.96 * error, abs=0.4)
    assert found.difference.high == pytest.approx(10 + 1.96 * error, abs=0.4)


def test_questions_beyond_training_and_other_questions_do_not_count() -> None:
    long, short = answers([0.5] * 6), answers([0.6] * 2)
    files = [
        [depth("plt", 2, 0, "chains", "steps", long)],
        [depth("serial", 2, 0, "chains", "steps", short, main=False)],
    ]
    (found,) = _found(*files)
    assert found.counted == "200 questions"
    other = depth("serial", 2, 0, "chains", "steps", answers([0.6] * 2, 50), main=False)
    assert _found(files[0], [other]) == []


def test_an_elastic_model_stands_beside_the_models_of_each_count() -> None:
    main = [[training("plt", loops, 0, bits)] for loops, bits in ((1, 1.5), (2, 1.4))]
    by_loops = {1: 1.52, 2: 1.41}
    elastic = training("elastic", 2, 0, 1.41, main=False, by_loops=by_loops)
    found = _found(*main, [elastic])
    assert [(each.loops, round(each.difference.value, 3)) for each in found] == [
        (1, 0.02),
        (2, 0.01),
    ]


def test_an_arm_without_main_models_of_its_loops_is_compared_with_none() -> None:
    serial = training("serial", 3, 0, 1.4, main=False, flops=3e15)
    assert _found([training("plt", 1, 0, 1.5)], [serial]) == []


def test_an_arm_of_as_much_compute_stands_beside_the_main_models_of_that_count() -> None:
    """Twice the layers at one loop, beside one loop and beside two."""
    main = [[training("plt", r, 0, bits, flops=r * 1e15)] for r, bits in ((1, 1.5), (2, 1.4))]
    deep = training("deep", 1, 0, 1.38, main=False, flops=2.1e15)
    found = _found(*main, [deep])
    assert [(each.loops, each.main_loops, each.flops) for each in found] == [
        (1, 1, pytest.approx(2.1)),
        (1, 2, pytest.approx(1.05)),
    ]
    assert [each.difference.value for each in found] == pytest.approx([-0.12, -0.02])


@pytest.mark.parametrize(("different", "called"), [(1, False), (3, False), (12, True)])
def test_answers_that_agree_nearly_everywhere(different: int, called: bool) -> None:
    """Most resamples of so few differences have no spread: the interval stays finite."""
    totals = np.zeros(1000)
    totals[:different] = 1.0
    found = ratio_estimate(totals, np.ones(1000), Resamples(1000))
    assert found.called == called
    assert found.low99 is not None
    assert found.high99 is not None
    assert -0.01 < found.low99 < found.value < found.high99 < 0.05


@pytest.mark.parametrize("right", [0, 3, 50, 100])
def test_the_interval_of_a_share_is_wilsons(right: int) -> None:
    expected = stats.binomtest(right, 100).proportion_ci(method="wilson")
    assert share_interval(right / 100, 100) == pytest.approx((expected.low, expected.high))
