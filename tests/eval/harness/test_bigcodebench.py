"""BigCodeBench: what it needs, its own package on two tasks of our own, its reports."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.harness import bigcodebench
from loopcoder.eval.harness.base import HarnessRun, Need
from loopcoder.eval.harness.bigcodebench import ENVIRONMENT, BigCodeBench, data_file, read_result
from loopcoder.eval.harness.needs import sandbox_need
from loopcoder.eval.harness.workspace import workspace
from tests.eval.harness.tiny import (
    REPORTS,
    bigcodebench_data,
    needs_environment,
    run_of,
    write_lines,
)

needs_sandbox = pytest.mark.skipif(not sandbox_need().found, reason="bubblewrap is missing")


def _data_needs(run: HarnessRun) -> list[Need]:
    return BigCodeBench().needs(run)[1:3]


def test_the_data_it_needs_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    data, libraries = _data_needs(run_of(tmp_path, tmp_path))
    assert not data.found
    assert not libraries.found
    assert "bigcode/bigcodebench'" in data.remedy
    data, _ = _data_needs(run_of(tmp_path, tmp_path, options={"subset": "hard"}))
    assert "BigCodeBench-Hard.jsonl" in data.what
    assert "bigcode/bigcodebench-hard'" in data.remedy


def test_the_subset_chooses_the_file(tmp_path: Path) -> None:
    bigcodebench_data(tmp_path)
    assert data_file(tmp_path, "full") == tmp_path / "BigCodeBench.jsonl"
    assert data_file(tmp_path, "hard") is None
    assert data_file(None, "full") is None


@pytest.mark.parametrize("content", ["{", "[1]\n", '{"a": 1}\n', ""])
def test_a_broken_file_is_a_need_and_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "BigCodeBench.jsonl").write_text(content)
    libraries = _data_needs(run_of(tmp_path, tmp_path))[1]
    assert not libraries.found
    assert "BigCodeBench.jsonl" in libraries.what


def test_a_zipped_file_is_cut_to_the_limit(tmp_path: Path) -> None:
    plain = bigcodebench_data(tmp_path) / "BigCodeBench.jsonl"
    zipped = tmp_path / "BigCodeBench.jsonl.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    cut = bigcodebench._cut(zipped, tmp_path / "cut.jsonl", 1)
    assert cut.read_text() == plain.read_text().splitlines(keepends=True)[0]


@pytest.mark.slow
@needs_environment(ENVIRONMENT)
def test_a_missing_library_is_named(tmp_path: Path) -> None:
    data = bigcodebench_data(tmp_path) / "BigCodeBench.jsonl"
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    write_lines(data, [rows[0], {**rows[1], "libs": "['math', 'no_such.part']"}])
    libraries = _data_needs(run_of(tmp_path, tmp_path))[1]
    assert not libraries.found
    assert "missing: no_such)" in libraries.what
    assert _data_needs(run_of(tmp_path, tmp_path, limit=1))[1].found


def test_its_report_is_read(tmp_path: Path) -> None:
    for report in REPORTS.glob("bigcodebench*"):
        shutil.copy(report, tmp_path / report.name)
    result = read_result(tmp_path, tmp_path / "log.txt")
    first, ground = result.scores
    assert result.correct == {"BigCodeBench/0": 0.5, "BigCodeBench/1": 0.0}
    assert (first.task, first.metric) == ("bigcodebench-full-complete", "pass@1")
    assert (first.value, first.samples) == (0.25, 2)
    assert first.standard_error == pytest.approx(0.25)
    assert (ground.metric, ground.value) == ("reference solutions passed", 1.0)


def test_no_report_and_a_broken_one_are_told(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with pytest.raises(EvaluationError, match=r"left 0 files \*_eval_results.json .* see .*log"):
        read_result(tmp_path, log)
    (tmp_path / "x_eval_results.json").write_text('{"eval": {"a": []}}')
    (tmp_path / "x_pass_at_k.json").write_text("{}")
    with pytest.raises(EvaluationError, match="not the report expected"):
        read_result(tmp_path, log)
    (tmp_path / "x_pass_at_k.json").write_text("{")
    with pytest.raises(EvaluationError, match=r"x_pass_at_k.json: not a report"):
        read_result(tmp_path, log)


def test_a_reference_that_never_passes_is_no_score(tmp_path: Path) -> None:
    for report in REPORTS.glob("bigcodebench*"):
        shutil.copy(report, tmp_path / report.name)
    totals = json.loads((tmp_path / "bigcodebench_pass_at_k.json").read_text())
    (tmp_path / "bigcodebench_pass_at_k.json").write_text(json.dumps({**totals, "gt_pass_rate": 0}))
    with pytest.raises(EvaluationError, match="no reference solution passed"):
        read_result(tmp_path, tmp_path / "log.txt")


@pytest.mark.slow
@needs_sandbox
@needs_environment(ENVIRONMENT)
def test_it_runs_against_a_server(nano: str, tmp_path: Path) -> None:
    data = bigcodebench_data(tmp_path / "data")
    result = BigCodeBench().run(run_of(tmp_path / "out", data, base_url=nano))
    assert result.correct == {"BigCodeBench/0": 0.0, "BigCodeBench/1": 0.0}
    assert [score.task for score in result.scores] == ["bigcodebench-full-instruct"] * 2
    assert result.scores[1].value == 1.0, "the reference solutions passed"


@pytest.mark.slow
@needs_sandbox
@needs_environment(ENVIRONMENT)
def test_its_tests_tell_right_answers_from_wrong_ones(tmp_path: Path) -> None:
    data = bigcodebench_data(tmp_path / "data") / "BigCodeBench.jsonl"
    run = run_of(tmp_path / "out", tmp_path / "data", n=2, temperature=0.2)
    values = {"split": "complete", "subset": "full"}
    space = workspace("bigcodebench", run, values)
    samples = space.work / "samples" / "given.jsonl"
    bodies = {
        "BigCodeBench/0": ("return x**0.5", "return None"),
        "BigCodeBench/1": ("raise ValueError(x)", "raise SystemExit"),
    }
    rows = [
        {"task_id": task, "solution": f"def task_func(x):\n    {body}\n"}
        for task, both in bodies.items()
        for body in both
    ]
    write_lines(samples, rows)
    bigcodebench._evaluate(run, values, space, data, samples)
    result = read_result(samples.parent, space.log)
    assert result.correct == {"BigCodeBench/0": 0.5, "BigCodeBench/1": 0.0}


@pytest.mark.slow
@needs_environment(ENVIRONMENT)
def test_a_server_that_dies_ends_it(tmp_path: Path) -> None:
    """By itself the package would ask again for ever."""
    data = bigcodebench_data(tmp_path / "data") / "BigCodeBench.jsonl"
    run = run_of(tmp_path / "out", tmp_path / "data")
    values = {"split": "instruct", "subset": "full"}
    space = workspace("bigcodebench", run, values)
    with pytest.raises(EvaluationError, match=r"the model is no longer served .*log.txt"):
        bigcodebench._generate(run, values, space, data)
    assert "API connection error" in space.log.read_text()


@pytest.mark.slow
@needs_environment(ENVIRONMENT)
def test_a_server_that_refuses_a_task_ends_it(nano: str, tmp_path: Path) -> None:
    """Of a prompt that is too long, too, the package would ask again for ever."""
    data = bigcodebench_data(tmp_path / "data") / "BigCodeBench.jsonl"
    task = json.loads(data.read_text().splitlines()[0])
    write_lines(data, [{**task, "instruct_prompt": "long " * 4000}])
    run = run_of(tmp_path / "out", tmp_path / "data", base_url=nano)
    values = {"split": "instruct", "subset": "full"}
    space = workspace("bigcodebench", run, values)
    with pytest.raises(EvaluationError, match=r"refuses a task .*Error code: 413 .*log.txt"):
        bigcodebench._generate(run, values, space, data)
