"""Variants of the architecture on disk: what is written, read, told and refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from loopcoder.checkpoint.config_file import config_json, parse_config, read_config
from loopcoder.checkpoint.convert import convert
from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.save import save_model
from loopcoder.errors import CheckpointError, ConfigError
from loopcoder.model.config import VARIANT_FIELDS
from tests.checkpoint.conftest import SMALL, edit_json, random_state
from tests.checkpoint.test_commands import run, run_json
from tests.model.configs import VARIANTS, random_weights, variant_name

SERIAL = SMALL.with_(plt_loop_offset=0, plt_share_kv=False, plt_gated_window=False)
TOKENS = torch.arange(1, 21)[None]


@pytest.fixture
def serial(tmp_path: Path) -> Path:
    weights = random_weights(SERIAL, seed=0)
    state = {name: torch.tensor(weight, dtype=torch.float32) for name, weight in weights.items()}
    return save_model(state, SERIAL, tmp_path / "serial")


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_a_file_holds_the_fields_that_differ(variant: dict[str, Any]) -> None:
    config = SMALL.with_(**variant)
    written = config_json(config, dtype="float32")
    assert parse_config(written, "config.json") == config
    differing = {name for name in VARIANT_FIELDS if variant[name] != getattr(SMALL, name)}
    assert set(VARIANT_FIELDS) & written.keys() == differing == config.variant.keys()


def test_a_source_does_not_lend_its_variant() -> None:
    base = config_json(SERIAL, dtype="float32")
    assert config_json(SMALL, dtype="float32", base=base) == config_json(SMALL, dtype="float32")


def test_gates_that_do_not_belong_are_explained(tmp_path: Path, serial: Path) -> None:
    with pytest.raises(CheckpointError, match="does not belong"):
        save_model(random_state(SMALL), SERIAL, tmp_path / "other")
    single = save_model(random_state(SMALL), SMALL, tmp_path / "single")
    (single / "config.json").write_text((serial / "config.json").read_text())
    with pytest.raises(CheckpointError, match=r"unexpected .*plt_gate.*plt_gated_window false"):
        load_model(single)


@pytest.mark.parametrize("value", [2, True, 1.0, None])
def test_an_impossible_offset_names_file_and_field(serial: Path, value: object) -> None:
    edit_json(serial / "config.json", plt_loop_offset=value)
    with pytest.raises(ConfigError, match=r"config\.json: plt_loop_offset is .*must be 1"):
        load_model(serial)


def test_the_commands_make_and_name_a_variant(single: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    run("init", made, "--like", single, "--dtype=f32", "--set=plt_gated_window=false")
    assert read_config(made) == SMALL.with_(plt_gated_window=False)
    record = run_json("info", made)
    assert record["variant"] == {"plt_gated_window": False}
    assert record["parameters"]["gates"] == 0
    assert "plt_gated_window false; not the released architecture" in run("info", made)
    assert run_json("info", single)["variant"] == {}
    assert "released architecture" not in run("info", single)


def test_a_llama_becomes_a_variant(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48}
    LlamaForCausalLM(
        LlamaConfig(**shape, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(tmp_path / "llama")
    changes = {"plt_loop_offset": 0, "plt_gated_window": False}
    directory = convert(tmp_path / "llama", tmp_path / "plt", loops=2, changes=changes)
    model = load_model(directory)
    assert model.config.variant == changes
    assert not any("gate_norm" in name for name, _ in model.named_parameters())


def test_quantised_variants_are_near_the_float_model(tmp_path: Path, serial: Path) -> None:
    run("quantize", serial, tmp_path / "q", "--bits=8")
    saved, made = load_model(tmp_path / "q"), load_model(serial, quantization="int8")
    assert saved.config.variant == SERIAL.variant
    with torch.inference_mode():
        models = saved, made, load_model(serial)
        saved_BTV, made_BTV, exact_BTV = (model(TOKENS).logits for model in models)
    torch.testing.assert_close(saved_BTV, made_BTV, rtol=0, atol=0)
    assert (saved_BTV - exact_BTV).norm() < 0.1 * exact_BTV.norm()


@pytest.mark.parametrize("command", ["generate", "chat"])
def test_the_engine_says_what_to_use_instead(serial: Path, command: str) -> None:
    wrong = (
        "the engine runs the released architecture only; this model has plt_loop_offset 0, "
        "plt_share_kv false, plt_gated_window false .*transformers' generate.*loopcoder probe"
    )
    with pytest.raises(ConfigError, match=wrong):
        run(command, "--model", serial, "--max-tokens=1", *(["x"] if command == "generate" else []))
