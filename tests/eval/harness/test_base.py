"""Options, and the needs of every benchmark with a harness of its own."""

from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError, RequestError
from loopcoder.eval.harness.base import Harness, Option, check_sampling, chosen, mean_error
from loopcoder.eval.harness.needs import require
from loopcoder.eval.harness.registry import HARNESSES
from loopcoder.eval.harness.workspace import plain_environment, workspace
from tests.eval.harness.tiny import run_of

SPLIT = (Option(name="split", default="a", about="which", choices=("a", "b")),)


def test_options_have_defaults_and_are_checked(tmp_path: Path) -> None:
    assert chosen(SPLIT, run_of(tmp_path)) == {"split": "a"}
    assert chosen(SPLIT, run_of(tmp_path, options={"split": "b"})) == {"split": "b"}
    with pytest.raises(RequestError, match=r"option split is 'c'; give one of a, b"):
        chosen(SPLIT, run_of(tmp_path, options={"split": "c"}))
    with pytest.raises(RequestError, match=r"option part is not one of this .* it has: split"):
        chosen(SPLIT, run_of(tmp_path, options={"part": "c"}))


def test_several_greedy_answers_are_refused(tmp_path: Path) -> None:
    check_sampling(run_of(tmp_path, n=2, temperature=0.2))
    with pytest.raises(RequestError, match="2 answers of each task at temperature 0"):
        check_sampling(run_of(tmp_path, n=2))


def test_a_mean_has_an_error_from_two_tasks_on() -> None:
    assert mean_error([]) is None
    assert mean_error([1.0]) is None
    assert mean_error([1.0, 0.0]) == pytest.approx(0.5)


@pytest.mark.parametrize("harness", HARNESSES.values(), ids=list(HARNESSES))
def test_needs_are_told_without_a_server_or_data(harness: Harness, tmp_path: Path) -> None:
    needs = harness.needs(run_of(tmp_path / "out", base_url="http://127.0.0.1/v1"))
    assert HARNESSES[harness.name] is harness
    assert harness.about
    assert all(need.what and need.remedy for need in needs)
    assert any("--data" in need.remedy for need in needs if not need.found)
    assert not (tmp_path / "out").exists(), "asking writes nothing"


@pytest.mark.parametrize("harness", HARNESSES.values(), ids=list(HARNESSES))
def test_a_run_without_its_data_says_all_that_is_missing(harness: Harness, tmp_path: Path) -> None:
    run = run_of(tmp_path / "out")
    missing = [need for need in harness.needs(run) if not need.found]
    with pytest.raises(EvaluationError) as caught:
        harness.run(run)
    assert all(need.remedy in str(caught.value) for need in missing)
    assert "\n" not in str(caught.value)


def test_nothing_missing_is_no_error() -> None:
    require("it", [])


def test_the_same_settings_find_their_directory_again(tmp_path: Path) -> None:
    first = workspace("it", run_of(tmp_path, workers=1), {"split": "a"})
    assert workspace("it", run_of(tmp_path, workers=2), {"split": "a"}) == first
    assert workspace("it", run_of(tmp_path), {"split": "b"}).work != first.work
    assert workspace("it", run_of(tmp_path, max_tokens=25), {"split": "a"}).work != first.work


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match=r"file.*--out"):
        workspace("it", run_of(tmp_path / "file"), {})


def test_a_harness_gets_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "s")
    given = plain_environment(tmp_path, API_KEY="k")
    assert "SECRET_KEY" not in given
    assert given["API_KEY"] == "k"
    assert given["HOME"] == str(tmp_path)
