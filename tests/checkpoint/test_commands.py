"""`loopcoder info`, `init` and `convert`, as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from loopcoder.checkpoint.config_file import read_config
from loopcoder.checkpoint.load import load_model
from loopcoder.cli.main import app
from loopcoder.errors import CheckpointError, ConfigError, LoopCoderError
from tests.checkpoint.conftest import SMALL, edit_tensors


def run(*arguments: object) -> str:
    """Standard output of a command; what it raises, the command line turns into status 2."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, LoopCoderError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json"))


class TestInfo:
    def test_the_released_shape(self) -> None:
        record = run_json("info", "loopcoder-v2")
        assert record["parameters"]["total"] == 7_615_749_680
        assert record["parameters"]["gates"] == 2_939_440
        assert [row["loops"] for row in record["loops"]] == [1, 2, 3, 4]
        two = record["loops"][1]
        assert two["kv_bytes_per_token"] == 57_344
        assert two["kv_bytes_later_loops"] == 3_727_360
        assert two["carried_state_bytes"] == 10_240

    def test_a_checkpoint(self, sharded: Path) -> None:
        record = run_json("info", sharded, "--context", 100)
        size = sum(path.stat().st_size for path in sharded.glob("*.safetensors"))
        assert 0.7 * size < record["bytes"] < size
        assert record["bytes_by_dtype"] == {"float32": record["bytes"]}
        assert record["bytes"] == 4 * record["parameters"]["total"]
        assert record["files"] == sorted(path.name for path in sharded.glob("*.safetensors"))
        text = run("info", sharded)
        assert f"{record['parameters']['total']:,}" in text
        assert "2 (own)" in text

    def test_a_broken_checkpoint(self, single: Path) -> None:
        edit_tensors(single, model__norm__weight=None)
        with pytest.raises(CheckpointError, match=r"model.norm.weight is missing"):
            run("info", single)

    def test_an_unknown_name_says_what_there_is(self) -> None:
        with pytest.raises(LoopCoderError, match=r"not bundled.*not a preset: loopcoder-v2"):
            run("info", "loopcoder-v3")
        with pytest.raises(LoopCoderError, match="--context is 0"):
            run("info", "loopcoder-v2", "--context", 0)


SMALL_CHANGES = [
    f"--set={name}={value}"
    for name, value in {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 96,
    }.items()
]


class TestInit:
    def test_like_a_preset(self, tmp_path: Path) -> None:
        target = tmp_path / "m"
        changes = [*SMALL_CHANGES, "--set=plt_num_loops=3"]
        record = run_json("init", target, "--like", "loopcoder-v2", *changes)
        assert record["directory"] == str(target)
        model = load_model(target)
        assert model.config.plt_num_loops == 3
        assert record["parameters"] == sum(p.numel() for p in model.parameters())
        assert next(model.parameters()).dtype == torch.bfloat16

    def test_like_a_checkpoint_or_a_config_file(self, single: Path, tmp_path: Path) -> None:
        options = ["--dtype=f32", "--seed=5", "--shard-size=20KB"]
        text = run("init", tmp_path / "a", "--like", single, *options)
        assert "parameters" in text
        run("init", tmp_path / "b", "--config", single / "config.json", *options)
        assert read_config(tmp_path / "a") == read_config(tmp_path / "b") == SMALL
        for path in (tmp_path / "a").glob("*.safetensors"):
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()

    def test_wrong_use(self, single: Path, tmp_path: Path) -> None:
        with pytest.raises(LoopCoderError, match="--like NAME or --config FILE"):
            run("init", tmp_path / "m")
        with pytest.raises(ConfigError, match="dtype is 'int8'"):
            run("init", tmp_path / "m", "--like", single, "--dtype", "int8")
        with pytest.raises(CheckpointError, match="not empty"):
            run("init", single, "--like", single)
        with pytest.raises(CheckpointError, match="GB free"):
            run("init", tmp_path / "m", "--like=loopcoder-v2", "--set=vocab_size=1000000000000")
        assert not (tmp_path / "m").exists()
        run("init", single, "--like", single, "--force")


def test_convert(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24}
    config = LlamaConfig(**shape, num_hidden_layers=1, num_attention_heads=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    record = run_json("convert", tmp_path / "llama", tmp_path / "plt", "--loops", 2)
    assert record["bytes"] == 4 * record["parameters"]
    assert read_config(tmp_path / "plt").plt_num_loops == 2
    with pytest.raises(CheckpointError, match="not empty"):
        run("convert", tmp_path / "llama", tmp_path / "plt")


def test_exit_status_of_a_wrong_name() -> None:
    command = [sys.executable, "-m", "loopcoder", "info", "no-such-model"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "no-such-model" in result.stderr
