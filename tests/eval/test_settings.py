"""What a run refuses, and when a directory may be gone on with."""

from dataclasses import replace
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.identity import source
from loopcoder.eval.settings import EvalSettings, claim


def _settings(out: Path, **changes: object) -> EvalSettings:
    return replace(EvalSettings(tasks=("humaneval",), out=out, model="m"), **changes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"n": 0}, "--n is 0"),
        ({"limit": 0}, "--limit is 0"),
        ({"n": 5}, "same answer"),
        ({"temperature": float("nan")}, "--temperature"),
        ({"prompt": "base"}, "give auto, chat"),
    ],
)
def test_impossible(tmp_path: Path, changes: dict[str, object], word: str) -> None:
    with pytest.raises(EvaluationError, match=word):
        _settings(tmp_path, **changes)


def test_a_run_goes_on_with_the_same_settings_alone(tmp_path: Path) -> None:
    first = _settings(tmp_path / "out", temperature=0.2)
    claim(first, {"humaneval": "a"})
    claim(first, {"humaneval": "a"})
    claim(replace(first, tasks=("mbpp",), threads=1, base_url=None), {"mbpp": "b"})
    with pytest.raises(EvaluationError, match=r"temperature 0.2 there, 0.8 now"):
        claim(replace(first, temperature=0.8), {"humaneval": "a"})


def test_answers_to_other_data_are_not_gone_on_with(tmp_path: Path) -> None:
    settings = _settings(tmp_path / "out")
    claim(settings, {"humaneval": "a"})
    claim(settings, {"mbpp": "b"})
    for changed in ({"humaneval": "c"}, {"mbpp": "c"}):
        with pytest.raises(EvaluationError, match=f"other data of {next(iter(changed))}"):
            claim(settings, changed)
    claim(settings, {"humaneval": "a", "mbpp": "b"})


def test_other_peoples_directories_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(EvaluationError, match="not empty"):
        claim(_settings(tmp_path), {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_keys_are_not_written(tmp_path: Path) -> None:
    claim(_settings(tmp_path / "out", api_key="sk-secret"), {})
    assert "secret" not in (tmp_path / "out" / "settings.json").read_text()


@pytest.mark.parametrize(
    "words", [["--api-key", "sk-1", "--n", "2"], ["--api-key=sk-1", "--n", "2"]]
)
def test_records_do_not_tell_the_key(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr("sys.argv", ["loopcoder", "eval", "humaneval", *words])
    command = source(None, None, seed=None, threads=None).command
    assert "sk-1" not in command
    assert command.startswith("loopcoder eval humaneval --api-key")
    assert command.endswith("--n 2")
