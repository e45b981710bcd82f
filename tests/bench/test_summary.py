"""Rows and ratios of given seconds: what is compared with what, and how."""

import pytest

from loopcoder.bench.plan import Case, Workload, our_cases
from loopcoder.bench.summary import Timing, ratios, row, tenths

WORK = Workload(kind="decode", sequences=2, prompt=8)


def timing(case: Case, *seconds: float, **more: object) -> Timing:
    return Timing(case=case, seconds=list(seconds), **more)  # type: ignore[arg-type]


def test_a_ratio_is_the_median_of_pairs_and_no_ratio_of_medians() -> None:
    one, two = timing(Case(loops=1), 1.0, 2.0, 9.0), timing(Case(loops=2), 3.0, 2.0, 9.9)
    assert ratios([one, two]) == {"R2 parallel / R1 parallel": pytest.approx(1.1)}
    assert ratios([one, two], of_rates=True) == {
        "R2 parallel / R1 parallel": pytest.approx(1 / 1.1)
    }


def test_schedules_formats_and_peers_meet_their_counterparts() -> None:
    cases = our_cases((1, 2), (None, "int8"), schedules=("parallel", "serial"))
    peers = [
        Case(engine="llama.cpp", quantization=None, schedule=None),
        Case(engine="llama.cpp", quantization="int8", schedule=None),
    ]
    assert set(ratios([timing(case, 1.0) for case in (*cases, *peers)])) == {
        "R2 parallel / R1 parallel",
        "R2 serial / R1 parallel",
        "R2 serial / R2 parallel",
        "R2 parallel int8 / R1 parallel int8",
        "R2 serial int8 / R1 parallel int8",
        "R2 serial int8 / R2 parallel int8",
        "R1 parallel / R1 parallel int8",
        "R2 parallel / R2 parallel int8",
        "llama.cpp bf16 / R1 parallel",
        "llama.cpp bf16 / R2 parallel",
        "llama.cpp Q8_0 / R1 parallel int8",
        "llama.cpp Q8_0 / R2 parallel int8",
    }


def test_one_loop_is_measured_in_one_schedule_only() -> None:
    names = [case.name for case in our_cases((1, 2), (None,), prefills=("tail", "full"))]
    assert names == ["R1 tail", "R2 tail", "R2 full"]


def test_weights_a_second_are_compared_with_the_read_of_the_same_round() -> None:
    measured = timing(
        Case(loops=2), 0.5, 1.0, plain_reads=[400.0, 125.0], facts={"weight_bytes": 100}
    )
    found = row(measured, WORK)
    assert found["weight_bytes_per_s"] == 150  # of 200 and 100
    assert found["over_plain_read"] == pytest.approx((200 / 400 + 100 / 125) / 2)
    assert found["tokens_per_s"] == pytest.approx(2 / 0.75)


def test_a_skipped_case_has_a_row_with_its_reason() -> None:
    found = row(Timing(case=Case(), skipped="not installed"), WORK)
    assert found["skipped"] == "not installed"
    assert found["n"] == 0
    assert found["median_s"] is found["tokens_per_s"] is found["over_plain_read"] is None


def test_percentiles_stay_within_what_was_measured() -> None:
    assert tenths([3.0]) == (3.0, 3.0)
    assert tenths([1.0, 2.0]) == (pytest.approx(1.1), pytest.approx(1.9))
