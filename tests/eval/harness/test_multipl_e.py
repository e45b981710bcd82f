"""MultiPL-E: what it needs, its own harness on two problems a language, its reports."""

import json
import shutil
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError, RequestError
from loopcoder.eval.harness import multipl_e
from loopcoder.eval.harness.languages import JAVATUPLES, LANGUAGES, language_need, tools
from loopcoder.eval.harness.multipl_e import ENVIRONMENT, MultiPLE, languages, read_result
from loopcoder.eval.harness.needs import sandbox_need
from loopcoder.eval.harness.workspace import link, workspace
from tests.eval.harness.tiny import (
    BODIES,
    MULTIPL_E,
    REPORTS,
    multipl_e_data,
    needs_environment,
    run_of,
)

needs_sandbox = pytest.mark.skipif(not sandbox_need().found, reason="bubblewrap is missing")


def test_languages_are_chosen_by_comma(tmp_path: Path) -> None:
    assert languages(run_of(tmp_path, options={"languages": "js,cpp"})) == ["js", "cpp"]
    assert set(languages(run_of(tmp_path))) <= set(LANGUAGES)
    for given, told in (("js,cobol", "names cobol"), ("", "names none")):
        with pytest.raises(RequestError, match=told):
            languages(run_of(tmp_path, options={"languages": given}))


def test_each_language_needs_its_files_and_its_compiler(tmp_path: Path) -> None:
    run = run_of(tmp_path, multipl_e_data(tmp_path / "data"), options={"languages": "sh,lua"})
    needs = {need.what: need for need in MultiPLE().needs(run)}
    assert needs["a --data directory with the files of nuprl/MultiPL-E: humaneval-sh/*"].found
    assert not needs["a --data directory with the files of nuprl/MultiPL-E: humaneval-lua/*"].found
    assert needs["Bash (bash)"].found


def test_a_missing_compiler_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    need = language_need("cs")
    assert not need.found
    assert need.what == "C# (csc, mono)"
    assert "apt install mono-complete" in need.remedy
    assert language_need("py").found, "the harness's own Python"
    assert tools("cs") == ([], [])


@pytest.mark.skipif(JAVATUPLES.exists(), reason="this machine has the library")
def test_what_java_needs_beside_a_compiler_is_named() -> None:
    need = language_need("java")
    assert not need.found
    assert str(JAVATUPLES) in need.what
    assert "org.javatuples:javatuples:1.2" in need.remedy


def test_its_report_is_read(tmp_path: Path) -> None:
    shutil.copytree(REPORTS / "multipl-e-sh", tmp_path / "work")
    result = read_result(tmp_path / "work", "sh")
    (first,) = result.scores
    assert result.correct == {"sh/HumanEval_53_add": 1.0, "sh/HumanEval_54_add": 0.0}
    assert (first.task, first.metric, first.value) == ("multipl-e-sh", "pass@1", 0.5)
    assert first.standard_error == pytest.approx(0.5)


def test_several_languages_have_a_mean(tmp_path: Path) -> None:
    shutil.copytree(REPORTS / "multipl-e-sh", tmp_path / "work")
    one = read_result(tmp_path / "work", "sh")
    metrics = json.loads((tmp_path / "work" / "metrics.json").read_text())
    metrics["multiple-js"] = {"pass@1": 1.0}
    (tmp_path / "work" / "metrics.json").write_text(json.dumps(metrics))
    both = multipl_e._together([one, read_result(tmp_path / "work", "js")])
    assert (both.scores[0].task, both.scores[0].value) == ("multipl-e", 0.75)
    assert len(both.correct) == 4


def test_no_report_and_a_broken_one_are_told(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"metrics.json: not a report"):
        read_result(tmp_path, "sh")
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(EvaluationError, match="not the report expected"):
        read_result(tmp_path, "sh")


@pytest.mark.slow
@needs_sandbox
@needs_environment(ENVIRONMENT)
def test_it_runs_against_a_server(nano: str, tmp_path: Path) -> None:
    data = multipl_e_data(tmp_path / "data")
    given = {"languages": "sh"}
    run = run_of(tmp_path / "out", data, base_url=nano, limit=1, loops=1, options=given)
    result = MultiPLE().run(run)
    assert list(result.correct) == ["sh/HumanEval_53_add"]
    assert [score.task for score in result.scores] == ["multipl-e-sh"]


@pytest.mark.slow
@needs_sandbox
@needs_environment(ENVIRONMENT)
@pytest.mark.parametrize("language", ["js", "cpp", "rs", "py"])
def test_its_tests_tell_right_answers_from_wrong_ones(language: str, tmp_path: Path) -> None:
    if not language_need(language).found:
        pytest.skip(language_need(language).remedy)
    data = multipl_e_data(tmp_path / "data")
    run = run_of(tmp_path / "out", data)
    space = workspace("multipl-e", run, {"languages": language})
    link(space.inputs / multipl_e.DATASET, data)
    head = f"{MULTIPL_E[language][0].strip()}\n"
    right = BODIES[language]
    answers = [[f"{head}{right}\n"], [f"{head}{right.replace('+', '-')}\n"]]
    (space.inputs / "predictions.json").write_text(json.dumps(answers))
    multipl_e._evaluate(run, language, space)
    result = read_result(space.work, language)
    assert list(result.correct.values()) == [1.0, 0.0]
