"""What the papers leave open: refused where it is no choice, named where it decides."""

from dataclasses import fields
from typing import Any

import pytest

from loopcoder.errors import RequestError
from loopcoder.probes import Conventions, ProbeOptions, probe
from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import MeasureRow
from tests.probes.models import sample, source, tiny


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("step_state", "x", "step_state is 'x'; choose one of 'u', 'h'"),
        ("rank_rows", "RMS", "rank_rows is 'RMS'; choose one of 'rms', 'as_is'"),
        ("attention_branch", "local", "attention_branch is 'local'; choose one of"),
        ("shift_direction", 1, "shift_direction is 1; choose one of"),
        ("first_token", -1, "first_token is -1; it must be a whole number, 0 or more"),
        ("first_token", "two", "first_token is 'two'; it must be a whole number"),
        ("first_token", 1.5, "first_token is 1.5; it must be a whole number"),
    ],
)
def test_what_is_no_choice_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Conventions(**{field: value})


def test_every_choice_but_position_decides_some_measure() -> None:
    named = {name for measure in MEASURES for name in Conventions().of(measure)}
    assert named == {field.name for field in fields(Conventions)}
    assert all("first_token" in Conventions().of(measure) for measure in MEASURES)


def numbers(**chosen: Any) -> dict[str, list[Any]]:
    model = tiny()
    samples = [sample(str(seed), seed) for seed in range(6)]
    options = ProbeOptions(conventions=Conventions(**chosen))
    found: dict[str, list[Any]] = {}
    for row in probe(model, samples, source(model), options=options):
        if isinstance(row, MeasureRow):
            assert row.conventions == options.conventions.of(row.measure)
            assert all(row.conventions.get(name, value) == value for name, value in chosen.items())
            found.setdefault(row.measure, []).append(row.mean)
    return found


@pytest.mark.parametrize(
    "chosen",
    [
        {"step_state": "h"},
        {"offset_state": "u"},
        {"rank_state": "u"},
        {"rank_rows": "as_is"},
        {"shift_direction": "from_previous"},
        {"attention_branch": "global"},
        {"first_token": 4},
    ],
)
def test_a_record_names_what_its_number_depends_on(chosen: dict[str, Any]) -> None:
    """The measures that change are those whose records have the convention, and no others."""
    (name,) = chosen
    before, after = numbers(), numbers(**chosen)
    changed = {measure for measure in MEASURES if before[measure] != after[measure]}
    assert changed == {measure for measure in MEASURES if name in Conventions().of(measure)}
