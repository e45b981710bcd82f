"""LiveCodeBench: what it needs, its own runner on three problems of our own, its reports."""

import json
import shutil
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.harness import livecodebench
from loopcoder.eval.harness.livecodebench import ENVIRONMENT, LiveCodeBench, read_result
from loopcoder.eval.harness.needs import sandbox_need
from loopcoder.eval.harness.workspace import link, workspace
from tests.eval.harness.tiny import REPORTS, livecodebench_data, needs_environment, run_of

needs_sandbox = pytest.mark.skipif(not sandbox_need().found, reason="bubblewrap is missing")
ANSWERS = {
    "abc0_a": "print(sum(map(int, input().split())))",
    "abc1_a": "print(min(map(int, input().split())))",
    "3000": "class Solution:\n    def addOne(self, x):\n        return x + 1",
}


def test_its_data_is_a_clone_with_its_loading_script(tmp_path: Path) -> None:
    script, rows = LiveCodeBench().needs(run_of(tmp_path, tmp_path))[1:3]
    assert not script.found
    assert not rows.found
    assert "hf download livecodebench/code_generation_lite" in script.remedy
    livecodebench_data(tmp_path)
    script, rows = LiveCodeBench().needs(run_of(tmp_path, tmp_path))[1:3]
    assert script.found
    assert rows.found


def test_its_report_is_read(tmp_path: Path) -> None:
    for report in REPORTS.glob("livecodebench*"):
        shutil.copy(report, tmp_path / report.name)
    result = read_result(tmp_path, "release_v1", tmp_path / "log.txt")
    (first,) = result.scores
    assert result.correct == {"abc0_a": 1.0, "abc1_a": 0.0, "3000": 1.0}
    assert (first.task, first.metric, first.samples) == ("livecodebench-release_v1", "pass@1", 3)
    assert first.value == pytest.approx(2 / 3)
    assert first.standard_error == pytest.approx(1 / 3), "its own, the same formula as ours"


def test_no_report_and_a_broken_one_are_told(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with pytest.raises(EvaluationError, match=r"left 0 files \*_eval.json .* see .*log"):
        read_result(tmp_path, "release_v1", log)
    (tmp_path / "x_eval.json").write_text("[]")
    (tmp_path / "x_eval_all.json").write_text("[]")
    with pytest.raises(EvaluationError, match="not the report expected"):
        read_result(tmp_path, "release_v1", log)


@pytest.mark.slow
@needs_sandbox
@needs_environment(ENVIRONMENT)
def test_it_runs_against_a_server(nano: str, tmp_path: Path) -> None:
    data = livecodebench_data(tmp_path / "data")
    run = run_of(tmp_path / "out", data, base_url=nano, limit=2, options={"release": "release_v1"})
    result = LiveCodeBench().run(run)
    assert result.correct == {"3000": 0.0, "abc0_a": 0.0}
    assert [score.metric for score in result.scores] == ["pass@1"]


@pytest.mark.slow
@needs_sandbox
@needs_environment(ENVIRONMENT)
def test_its_tests_tell_right_answers_from_wrong_ones(tmp_path: Path) -> None:
    data = livecodebench_data(tmp_path / "data")
    values = {"release": "release_v1", "start": "", "end": ""}
    run = run_of(tmp_path / "out", data, options=values)
    space = workspace("livecodebench", run, values)
    link(space.inputs / livecodebench.DATASET, data)
    answers = [
        {"question_id": name, "output_list": [f"So:\n```python\n{code}\n```"]}
        for name, code in ANSWERS.items()
    ]
    (space.inputs / "answers").mkdir()
    (space.inputs / "answers" / "given.json").write_text(json.dumps(answers))
    livecodebench._evaluate(run, values, space)
    result = read_result(space.work / "graded", "release_v1", space.log)
    assert result.correct == {"abc0_a": 1.0, "abc1_a": 0.0, "3000": 1.0}
