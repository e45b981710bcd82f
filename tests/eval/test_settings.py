"""What a run refuses, and when a directory may be gone on with."""

from dataclasses import replace
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
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
    claim(first)
    claim(first)
    claim(replace(first, tasks=("mbpp",), threads=1, base_url=None))
    with pytest.raises(EvaluationError, match=r"temperature 0.2 there, 0.8 now"):
        claim(replace(first, temperature=0.8))


def test_other_peoples_directories_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(EvaluationError, match="not empty"):
        claim(_settings(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_keys_are_not_written(tmp_path: Path) -> None:
    claim(_settings(tmp_path / "out", api_key="sk-secret"))
    assert "secret" not in (tmp_path / "out" / "settings.json").read_text()
