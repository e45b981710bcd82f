"""Records as frames: one line a number."""

import sys

import pytest

from loopcoder.errors import LoopCoderError
from loopcoder.probes import frame, probe, sample_frame
from loopcoder.records.rows import MeasureRow, SampleRow
from tests.probes.models import sample, source, tiny


@pytest.fixture(scope="module")
def rows() -> list[object]:
    model = tiny()
    return list(probe(model, [sample(n, i) for i, n in enumerate("aab")], source(model)))


def test_every_mean_is_a_line(rows: list[object]) -> None:
    found = frame(rows)  # type: ignore[arg-type]
    measured = [row for row in rows if isinstance(row, MeasureRow)]
    values = sum(len(row.mean) if isinstance(row.mean, list) else 1 for row in measured)
    assert len(found) == values
    assert set(found["model"]) == {"tiny"}
    assert set(found["samples"]) == {3}
    assert set(found["documents"]) == {2}
    for row in measured:
        lines = found[(found.measure == row.measure) & (found.loop == row.loop)]
        if row.layer is None:
            (line,) = lines.itertuples()
            assert (line.mean, line.low, line.high, line.sd) == (
                row.mean,
                row.low,
                row.high,
                row.sd,
            )
        else:
            lines = lines[lines.layer == row.layer]
            assert lines["mean"].tolist() == (
                row.mean if isinstance(row.mean, list) else [row.mean]
            )
            if isinstance(row.mean, list):
                assert lines["head"].tolist() == [0, 1, 2, 3]


def test_every_samples_value_is_a_line(rows: list[object]) -> None:
    found = sample_frame(rows)  # type: ignore[arg-type]
    samples = [row for row in rows if isinstance(row, SampleRow)]
    assert len(found) == sum(len(values) for row in samples for values in row.values.values())
    for row in samples:
        own = found[(found.document == row.document) & (found.start == row.start)]
        shift = own[own.measure == "output_shift"]
        assert shift["loop"].tolist() == [2, 3]
        assert shift["value"].tolist() == row.values["output_shift"]
        assert own[own.measure == "loss"]["loop"].tolist() == [1, 2, 3]


def test_no_rows_are_an_empty_frame_with_its_columns() -> None:
    assert list(frame([]).columns)[:4] == ["measure", "loop", "layer", "head"]
    assert list(sample_frame([]).columns)[:4] == ["document", "start", "measure", "loop"]


def test_without_pandas_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(LoopCoderError, match=r"pip install 'loopcoder\[report\]'"):
        frame([])
