"""`loopcoder report`: files in, one page out, and what it says when that cannot be."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.run import loopcoder
from tests.report.pages import Page
from tests.report.rows import probe_rows, write_rows

BENCH = {
    "machine": {"processor": "Made-up 9000"},
    "model": {"name": "model-r2"},
    "rows": [],
    "ratios": {},
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two record files in folders, a bench, and files of other kinds."""
    write_rows(tmp_path / "r1" / "probe.jsonl", probe_rows(1, attention=False))
    write_rows(tmp_path / "r2" / "probe.jsonl", probe_rows(2, attention=False))
    (tmp_path / "decode.json").write_text(json.dumps(BENCH))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    return tmp_path


def test_it_writes_one_page_from_a_directory(runs: Path) -> None:
    done = loopcoder("report", str(runs), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    page = runs / "report.html"
    assert told["page"] == str(page)
    assert told["bytes"] == page.stat().st_size
    assert len(told["from"]) == 3
    assert "metrics.jsonl" in done.stderr
    html = page.read_text(encoding="utf-8")
    read = Page(html)
    assert read.text(read.find("title")[0]) == "How many loops? model-r1, model-r2"
    assert "r2/probe.jsonl" in read.text(read.find("section", id="sources")[0])
    assert str(runs) not in html
    assert not list(runs.glob(".*"))


def test_published_values_stand_beside_the_measured_ones(runs: Path) -> None:
    out = runs / "pages" / "mine.html"
    first = loopcoder("report", str(runs), "--out", str(out), "--published")
    assert first.returncode == 0, first.stderr
    assert str(out) in first.stdout
    assert "published" in out.read_text(encoding="utf-8")


def test_published_values_alone_make_a_page(tmp_path: Path) -> None:
    done = loopcoder("report", str(tmp_path), "--published")
    assert done.returncode == 0, done.stderr
    read = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert read.text(read.find("p", class_="big")[0]) == "Train and run with 2 loops"


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (shutil.rmtree, "no directory"),
        (lambda d: None, "no record files"),
        (lambda d: (d / "probe.jsonl").write_text(""), "has no rows"),
        (lambda d: (d / "probe.jsonl").write_text('{"schema": 9, "source": {}}\n'), "version 9"),
        (lambda d: write_rows(d / "a.jsonl", [*probe_rows(1), *probe_rows(2)]), "several models"),
        (lambda d: (d / "probe.jsonl").write_text('{"schema": 1, "sou'), "not JSON"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, prepare: object, expected: str) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    assert callable(prepare)
    prepare(folder)
    done = loopcoder("report", str(folder))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr
    assert not (folder / "report.html").exists()


def test_a_page_that_cannot_be_written_leaves_nothing(runs: Path) -> None:
    (runs / "file").write_text("")
    done = loopcoder("report", str(runs), "--out", str(runs / "file" / "page.html"))
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert (runs / "file").read_text() == ""


def test_it_needs_no_torch(runs: Path) -> None:
    code = (
        "import sys; sys.argv = ['loopcoder', 'report', sys.argv[1]]\n"
        "from loopcoder.cli.main import app\n"
        "try:\n    app()\nfinally:\n    print('torch' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(runs)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False False"


def test_without_matplotlib_it_says_what_to_install(runs: Path) -> None:
    (runs / "matplotlib").mkdir()
    code = (
        "import sys, importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'matplotlib' else found(name, *rest)\n"
        "sys.argv = ['loopcoder', 'report', sys.argv[1]]\n"
        "from loopcoder.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(runs)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "pip install 'loopcoder[report]'" in done.stderr


@pytest.mark.slow
def test_from_the_bundled_model_to_its_page(tmp_path: Path) -> None:
    """Probe, then report: what a user does, on the real model."""
    options = ("--samples", "8", "--length", "128", "--threads", "1")
    probed = loopcoder("probe", "loopcoder-nano", *options, "--out", str(tmp_path))
    assert probed.returncode == 0, probed.stderr
    done = loopcoder("report", str(tmp_path))
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    read = Page(html)
    lines = [read.text(i) for i in read.find("p", class_="missing")]
    assert {line.split(".")[0] for line in lines} <= {
        "Not in these records: models of one architecture trained at several loop counts",
        "Not in these records: a measured latency",
        "With two loops the prediction changes at loop 2 only; shares need three or more",
    }
    assert len(read.find("span", role="option")) > 50
    assert os.path.getsize(tmp_path / "report.html") < 2_000_000
