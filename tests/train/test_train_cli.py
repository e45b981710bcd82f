"""`loopcoder train` as it is typed."""

import json
import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from loopcoder.cli.main import main
from loopcoder.cli.train import train
from tests.train.train_helpers import tiny_recipe, write_shards


def as_toml(values: dict[str, object]) -> str:
    """TOML of a recipe's record: two levels, no nulls."""
    lines = []
    for section, table in values.items():
        if isinstance(table, dict):
            lines.append(f"[{section}]")
            lines += [f"{key} = {json.dumps(v)}" for key, v in table.items() if v is not None]
    return "\n".join(lines)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(as_toml(tiny_recipe("run.steps=2").record()))
    return path


@pytest.fixture
def app() -> Typer:
    app = Typer()
    app.command()(train)
    return app


def test_a_run_prints_its_summary(app: Typer, recipe: Path, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards")
    out = tmp_path / "run"
    options = ["--data", str(shards), "--out", str(out), "--json", "--set", "optim.peak_lr=0.02"]
    result = CliRunner().invoke(app, [str(recipe), *options])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary == json.loads((out / "run.json").read_text())
    assert summary["recipe"]["optim"]["peak_lr"] == 0.02
    assert "step 2/2" in result.stderr
    assert "bits per byte" in result.stderr


def test_help_has_an_example(app: Typer) -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert "loopcoder train nano" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.toml"], "nowhere.toml: no such recipe file"),
        (["nano", "--data", "nowhere"], "nowhere: there is no such data directory"),
        (["nano", "--set", "run.micro_batch=7"], "run.micro_batch is 7; it must divide"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    arguments: list[str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["loopcoder", "train", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert expected in error
    assert error.count("\n") == 1
