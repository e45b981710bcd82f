"""Mind2Web: what it needs, inspect_evals' real prompt and scorer on pages of our own."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.environments import INSPECT_EVALS
from loopcoder.eval.harness.base import HarnessRun
from loopcoder.eval.harness.mind2web import Mind2Web, clustered_error, read
from tests.eval.harness.tiny import needs_environment, run_of, write_lines


def _candidate(number: int) -> str:
    return json.dumps({"backend_node_id": str(number), "tag": "b"})


def _step(task: str, action: str, right: int | None) -> dict[str, Any]:
    """A page with two buttons; `right` is the one to press, None where neither is on it."""
    buttons = "".join(f"<b backend_node_id='{n}'/>" for n in (1, 2))
    return {
        "annotation_id": task,
        "action_uid": action,
        "action_reprs": [],
        "target_action_index": "0",
        "pos_candidates": [] if right is None else [_candidate(right)],
        "neg_candidates": [_candidate(n) for n in (1, 2) if n != right],
        "cleaned_html": f"<html backend_node_id='0'>{buttons}</html>",
        "operation": json.dumps({"op": "CLICK", "original_op": "CLICK", "value": ""}),
        "confirmed_task": "Press",
        "screenshot": "not read",
    }


def _data(directory: Path) -> Path:
    """Three steps of two tasks in the format of Multimodal-Mind2Web, and the elements' ranks."""
    steps = [_step("t1", "a", 1), _step("t1", "b", 2), _step("t2", "c", None)]
    write_lines(directory / "data" / "test_domain.jsonl", steps)
    ranks = {f"{s['annotation_id']}_{s['action_uid']}": {"1": 1, "2": 2} for s in steps}
    (directory / "scores_all_data.json").write_text(json.dumps({"ranks": ranks}))
    return directory


def _run(tmp_path: Path, **fields: Any) -> HarnessRun:
    return run_of(tmp_path / "out", _data(tmp_path / "data"), **{"max_tokens": 16, **fields})


def test_it_names_each_missing_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INSPECT_EVALS.variable, str(tmp_path / "none"))
    python, pages, ranks = Mind2Web().needs(run_of(tmp_path, tmp_path))
    assert not any(need.found for need in (python, pages, ranks))
    assert "loopcoder eval setup inspect-evals" in python.remedy
    assert "hf download osunlp/Multimodal-Mind2Web" in pages.remedy
    assert "scores_all_data.pkl" in ranks.remedy
    _, pages, ranks = Mind2Web().needs(_run(tmp_path))
    assert pages.found
    assert ranks.found
    other = _run(tmp_path, options={"split": "test_website"})
    assert not Mind2Web().needs(other)[1].found


def test_its_report_is_read(tmp_path: Path) -> None:
    measures = {"element accuracy": 0.75, "step success": 2 / 3, "task success": 0.5}
    steps = [["t1_a", "t1", 1.0], ["t1_b", "t1", 1.0], ["t2_c", "t2", 0.0], ["t1_a", "t1", 1.0]]
    told = {"metrics": measures, "steps": steps, "unscored": ["t2_d", "t1_a"]}
    report = tmp_path / "report.json"
    report.write_text(json.dumps(told))
    found = read("m", report, tmp_path / "log.txt")
    assert found.correct == {"t1_a": 1.0, "t1_b": 1.0, "t2_c": 0.0}
    scores = {score.metric: score for score in found.scores}
    assert {name: scores[name].value for name in measures} == measures
    assert (scores["task success"].samples, scores["step success"].samples) == (2, 3)
    assert scores["unscored"].value == 1, "t1_a has another answer"
    report.write_text(json.dumps({**told, "steps": []}))
    with pytest.raises(EvaluationError, match=r"none of 2 steps could be scored; see .*log.txt"):
        read("m", report, tmp_path / "log.txt")


def test_steps_of_a_task_count_together() -> None:
    shares = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.0}
    alone = clustered_error(shares, {name: name for name in shares})
    assert alone == pytest.approx(math.sqrt(1 / 3 / 4)), "the ordinary standard error"
    pairs = clustered_error(shares, {"a": "x", "b": "x", "c": "y", "d": "y"})
    assert pairs == pytest.approx(0.5), "as of two answers, 1 and 0"
    assert clustered_error(shares, dict.fromkeys(shares, "x")) is None


@pytest.mark.slow
@needs_environment(INSPECT_EVALS)
def test_it_goes_on_where_the_server_went_away(nano: str, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no longer served.*log is .*log.txt|steps could be"):
        Mind2Web().run(_run(tmp_path))
    found = Mind2Web().run(_run(tmp_path, base_url=nano))
    assert list(found.correct) == ["t1_a", "t1_b", "t2_c"]
    assert [score.metric for score in found.scores] == [
        "element accuracy",
        "action F1",
        "step success",
        "task success",
    ]


@pytest.mark.slow
@needs_environment(INSPECT_EVALS)
def test_a_pickle_of_somebody_else_is_not_opened(nano: str, tmp_path: Path) -> None:
    run = _run(tmp_path, base_url=nano)
    assert run.data is not None
    (run.data / "scores_all_data.json").unlink()
    (run.data / "scores_all_data.pkl").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(EvaluationError, match=r"scores_all_data.pkl is not the published file"):
        Mind2Web().run(run)
    assert not list(tmp_path.rglob("opened"))
