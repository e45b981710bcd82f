"""The table of measures is that of the specification, each under one name."""

import pytest

from loopcoder.records.measures import MEASURES


def test_each_measure_is_under_its_own_name() -> None:
    assert [measure.name for measure in MEASURES.values()] == list(MEASURES)
    assert len({measure.title for measure in MEASURES.values()}) == len(MEASURES)
    for measure in MEASURES.values():
        assert measure.unit
        assert measure.definition


@pytest.mark.parametrize(
    "name",
    [
        *("update_angle", "offset_cost", "output_shift", "peak_share", "gate"),
        *("attention_entropy_local", "attention_shift"),
    ],
)
def test_what_compares_loops_begins_with_the_second(name: str) -> None:
    assert MEASURES[name].first_loop == 2


def test_all_others_begin_with_the_first() -> None:
    assert sum(measure.first_loop == 1 for measure in MEASURES.values()) == len(MEASURES) - 7
