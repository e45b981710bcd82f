"""`loopcoder eval` as it is typed: a run, its records, and what is done with them."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("inspect_ai")

from loopcoder.records.files import read_records
from loopcoder.records.rows import AnswerRow, NoteRow, ScoreRow
from tests.eval.data import DATA, needs_data

ROOT = Path(__file__).parents[2]
DAMAGED = str(Path(__file__).parent / "damaged")
NOWHERE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")


def _loopcoder(directory: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "loopcoder", *words],
        cwd=directory,
        env={**os.environ, **NOWHERE, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == status, done.stderr[-3000:]
    return done


@needs_data
@pytest.mark.slow
def test_a_run_and_what_follows(tmp_path: Path) -> None:
    """Two runs of nano on a few problems without any network, compared, exported, shown."""
    common = ["--data", str(DATA), "--limit", "5", "--threads", "1", "--max-tokens", "40"]
    for loops in ("1", "2"):
        words = ["humaneval_plus", "cruxeval_input", *common, "--loops", loops]
        out = _loopcoder(tmp_path, "eval", *words, "--out", f"r{loops}", "--json").stdout
    scores = json.loads(out)
    assert {(s["task"], s["metric"], s["n"]) for s in scores} == {
        ("humaneval_plus", "pass@1", 5),
        ("humaneval_plus", "base pass@1", 5),
        ("cruxeval_input", "pass@1", 5),
    }
    rows = read_records(tmp_path / "r2" / "humaneval_plus.jsonl")
    answers = [row for row in rows if isinstance(row, AnswerRow)]
    assert [a.problem for a in answers] == [f"HumanEval/{i}" for i in range(5)]
    assert all(set(a.scores) == {"pass", "base"} and a.loops == 2 and a.reason for a in answers)
    score = next(row for row in rows if isinstance(row, ScoreRow))
    assert score.source.model is not None
    assert score.source.model.dtype == "bfloat16"
    assert score.source.data is not None
    assert not any(isinstance(row, NoteRow) for row in rows)

    compared = json.loads(_loopcoder(tmp_path, "eval", "compare", "r1", "r2", "--json").stdout)
    assert {c["task"] for c in compared} == {"humaneval_plus", "cruxeval_input"}
    assert "HumanEval/0" in _loopcoder(tmp_path, "eval", "export", "r2", "humaneval_plus").stdout
    assert "84.1" in _loopcoder(tmp_path, "eval", "results", "r2").stdout

    again = _loopcoder(tmp_path, "eval", *words, "--out", "r2", "--json")
    assert json.loads(again.stdout) == scores  # nothing is run twice
    other = _loopcoder(tmp_path, "eval", *words, "--out", "r2", "--seed", "4", status=2)
    assert "other settings (seed None there, 4 now)" in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eval", "humanevil"], "did you mean humaneval"),
        (["eval", "humaneval_plus", "--data", "."], "eval download humaneval_plus"),
        (["eval", "cruxeval_input", "--data", DAMAGED], "line 2: field 'output' is missing"),
        (["eval", "compare", "here", "there"], "is no directory"),
        (["eval", "view", "here"], "is not there"),
        (["eval", "setup", "evilplus"], "there are"),
        (["eval", "heldout", "--data", "nowhere"], "nowhere"),
        (["eval", "cruxeval_output", "--n", "4"], "same answer"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, words: list[str], expected: str) -> None:
    done = _loopcoder(tmp_path, *words, status=2)
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_without_bubblewrap_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if DATA is None:
        pytest.skip("no benchmark files")
    module = import_module("loopcoder.eval.sandbox.bubblewrap")
    monkeypatch.setattr(module, "TOOLS", str(tmp_path))
    from loopcoder.errors import EvaluationError
    from loopcoder.eval.evaluate import evaluate
    from loopcoder.eval.settings import EvalSettings

    out = tmp_path / "out"
    settings = EvalSettings(tasks=("humaneval_plus",), out=out, model="loopcoder-nano", data=DATA)
    with pytest.raises(EvaluationError, match="apt install bubblewrap"):
        evaluate(settings)
    assert not out.exists()


@pytest.mark.slow
def test_the_list_says_what_is_missing(tmp_path: Path) -> None:
    shown = _loopcoder(tmp_path, "eval", "list").stdout
    for name in ("humaneval_plus", "heldout", "bfcl", "swe-bench-verified", "bigcodebench"):
        assert name in shown
