"""`loopcoder probe` as a user runs it: the bundled model, small checkpoints, signals, mistakes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loopcoder.records.files import read_records
from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import CostRow, MatrixRow, MeasureRow, NoteRow, PassageRow, SampleRow
from tests.cli.run import loopcoder
from tests.probes.models import small_checkpoint

pytestmark = pytest.mark.slow

TEXTS = Path(__file__).parents[2] / "loopcoder" / "probes"
NANO = ("probe", "loopcoder-nano", "--data", str(TEXTS))


def rows_in(path: Path) -> list[Any]:
    return list(read_records(path / "probe.jsonl"))


def means(rows: list[Any], name: str) -> dict[tuple[int, int | None], Any]:
    return {
        (r.loop, r.layer): r.mean
        for r in rows
        if isinstance(r, MeasureRow | MatrixRow) and r.measure == name
    }


def notes(rows: list[Any]) -> dict[str | None, str]:
    return {row.measure: row.text for row in rows if isinstance(row, NoteRow)}


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[subprocess.CompletedProcess[str], list[Any]]:
    """Three samples of 96 tokens by the bundled model."""
    out = tmp_path_factory.mktemp("probe") / "deep" / "out"
    done = loopcoder(*NANO, "--samples", "3", "--length", "96", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in out.iterdir()] == ["probe.jsonl"]
    return done, rows_in(out)


def test_the_bundled_model_has_every_measure(measured: Any) -> None:
    _, rows = measured
    assert {row.measure for row in rows if isinstance(row, MeasureRow)} == set(MEASURES)
    for name, measure in MEASURES.items():
        places = means(rows, name)
        layers = [None] if measure.axes == "loop" else [0, 1, 2, 3]
        loops = range(measure.first_loop, 3)
        assert sorted(places, key=str) == sorted([(r, n) for r in loops for n in layers], key=str)
        for value in places.values():
            assert (isinstance(value, list) and len(value) == 4) == (measure.axes == "head")
    assert len([row for row in rows if isinstance(row, SampleRow)]) == 3
    assert len([row for row in rows if isinstance(row, MatrixRow)]) == 2 * 4
    assert [row.loops for row in rows if isinstance(row, CostRow)] == [1, 2, 3, 4]
    assert notes(rows) == {}


def test_every_row_says_where_it_comes_from(measured: Any) -> None:
    _, rows = measured
    (source,) = {row.source.model_dump_json() for row in rows}
    found = json.loads(source)
    assert found["command"].startswith("loopcoder probe loopcoder-nano --data")
    assert found["model"]["name"] == "loopcoder-nano"
    assert found["model"]["trained_loops"] == 2
    assert found["data"]["name"] == "probes"
    assert found["data"]["length"] == 96
    assert found["seed"] == 0
    assert found["machine"]["threads"] == 1


def test_the_passage_is_the_first_samples_text(measured: Any) -> None:
    _, rows = measured
    (passage,) = (row for row in rows if isinstance(row, PassageRow))
    first = next(row for row in rows if isinstance(row, SampleRow))
    assert passage.document == first.document
    assert len(passage.tokens) == 96
    text = "".join(token.text for token in passage.tokens)
    assert text in (TEXTS / first.document).read_text()


def test_the_table_shows_each_measure_and_progress(measured: Any) -> None:
    done, _ = measured
    assert done.stdout.startswith("3 samples of 3 documents")
    for measure in MEASURES.values():
        assert measure.title in done.stdout
    assert re.search(r"Loss +│ +\d\.\d+ ± \d", done.stdout)
    assert done.stderr.splitlines() == [f"{n} of 3 samples" for n in (1, 2, 3)]
    assert "written: " in done.stdout


def test_options_conventions_and_json(measured: Any, tmp_path: Path) -> None:
    """The same samples at three loops, with another rank and without the first tokens."""
    _, before = measured
    done = loopcoder(
        *(*NANO, "--samples", "3", "--length", "96", "--out", str(tmp_path), "--json"),
        *("--loops", "3", "--no-attention", "--no-fixed-point", "--batch", "2"),
        *("--convention", "rank_state=u", "--convention", "rank_rows=as_is"),
    )
    assert done.returncode == 0, done.stderr
    result, rows = json.loads(done.stdout), rows_in(tmp_path)
    assert result["file"] == str(tmp_path / "probe.jsonl")
    assert result["interrupted"] is False
    assert result["model"]["name"] == "loopcoder-nano"
    written = [json.loads(r.model_dump_json(exclude={"source"}, exclude_none=True)) for r in rows]
    assert result["rows"] == [row for row in written if row["kind"] != "sample"]
    assert {row["kind"] for row in result["rows"]} == {"measure", "cost", "note", "passage"}

    assert "trained with 2 loops" in notes(rows)[None]
    assert {name for name in notes(rows) if name} == {
        *(name for name in MEASURES if name.startswith(("attention_", "head_"))),
        "fixed_point_gap",
    }
    for row in (row for row in rows if isinstance(row, MeasureRow)):
        if row.measure == "effective_rank":
            assert row.conventions == {"first_token": 0, "rank_state": "u", "rank_rows": "as_is"}
    rank, other = means(rows, "effective_rank"), means(before, "effective_rank")
    assert abs(rank[1, None] - other[1, None]) > 1
    for name in ("loss", "step_size", "output_shift"):
        loops = means(before, name)
        assert {at: means(rows, name)[at] for at in loops} == pytest.approx(loops, rel=1e-3)
        assert (3, None) in means(rows, name)


def test_samples_within_the_window_and_of_one_document_are_noted(tmp_path: Path) -> None:
    passage = tmp_path / "passage.py"
    passage.write_text("def add(a, b):\n    return a + b\n")
    done = loopcoder(
        *("probe", "loopcoder-nano", "--data", str(TEXTS / "taps.py"), "--samples", "3"),
        *("--length", "40", "--per-document", "2", "--passage", str(passage)),
        *("--passage-tokens", "7", "--seed", "5", "--out", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    rows = rows_in(tmp_path / "out")
    texts = [row.text for row in rows if isinstance(row, NoteRow)]
    assert len(texts) == 3
    assert "40 tokens lie within the window of 65 keys" in texts[0]
    assert "the text has 2 samples of 40 tokens, 3 asked" in texts[1]
    assert "all samples are of one document, so there is no interval" in texts[2]
    for text in texts:
        assert text.split(":")[0] in done.stdout.replace("\n", " ")
    assert all(row.low is None for row in rows if isinstance(row, MeasureRow))
    (shown,) = (row for row in rows if isinstance(row, PassageRow))
    assert shown.document == "passage.py"
    assert len(shown.tokens) == 7
    assert "".join(token.text for token in shown.tokens) in passage.read_text()


def test_a_model_of_one_loop_measures_what_it_has(tmp_path: Path) -> None:
    model = small_checkpoint(tmp_path / "one", plt_num_loops=1)
    done = loopcoder(
        *("probe", str(model), "--data", str(TEXTS), "--samples", "2", "--length", "24"),
        *("--out", str(tmp_path / "out")),
    )
    assert done.returncode == 0, done.stderr
    rows = rows_in(tmp_path / "out")
    found = {row.measure for row in rows if isinstance(row, MeasureRow)}
    assert found == {
        *("loss", "step_size", "effective_rank", "truth_rank", "output_entropy"),
        *("attention_entropy_global", "attention_entropy_mixed", "head_rank", "head_cosine"),
    }
    assert set(notes(rows)) == set(MEASURES) - found
    assert notes(rows)["gate"] == "it compares loops, and one loop was run"
    assert "no second loop can be run" in notes(rows)["fixed_point_gap"]
    line = next(x for x in done.stdout.splitlines() if "it compares loops" in x)
    assert line.startswith("not measured: ")
    assert MEASURES["update_angle"].title in done.stdout


def started(out: Path) -> "subprocess.Popen[str]":
    """A probe that has measured the first of its ten samples."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "loopcoder", *NANO, "--samples", "10", "--length", "512"),
            *("--per-document", "10", "--out", str(out)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("1 of 10"), line + process.stderr.read()
    return process


@pytest.mark.slow
def test_an_interrupt_leaves_what_was_measured(tmp_path: Path) -> None:
    process = started(tmp_path)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    rows = rows_in(tmp_path)
    done = sum(isinstance(row, SampleRow) for row in rows)
    assert 1 <= done < 10
    assert f"interrupted: {done} of 10 samples were measured" in notes(rows)[None]
    assert f"interrupted: {done} of 10" in stdout
    assert {row.measure for row in rows if isinstance(row, MeasureRow)} == set(MEASURES)
    assert {row.samples for row in rows if isinstance(row, MeasureRow)} == {done}
    assert sum(isinstance(row, PassageRow) for row in rows) == 1


@pytest.mark.slow
def test_a_killed_run_leaves_no_record_file(tmp_path: Path) -> None:
    process = started(tmp_path)
    process.kill()
    process.communicate()
    assert not (tmp_path / "probe.jsonl").exists()
    done = loopcoder(
        *(*NANO, "--samples", "1", "--length", "16", "--no-attention", "--out", str(tmp_path))
    )
    assert done.returncode == 0, done.stderr  # what the killed one left is in nobody's way
    assert [path.name for path in tmp_path.iterdir()] == ["probe.jsonl"]
    assert sum(isinstance(row, SampleRow) for row in rows_in(tmp_path)) == 1
