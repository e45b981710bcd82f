"""`config.json`: the released fields, both spellings of RoPE's base, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from loopcoder.checkpoint.config_file import config_json, parse_config, read_config, write_json
from loopcoder.errors import ConfigError
from loopcoder.model.config import ModelConfig
from loopcoder.model.presets import loopcoder_v2
from tests.checkpoint.conftest import SMALL

RELEASED: dict[str, Any] = {
    "architectures": ["IQuestPLTCoderForCausalLM"],
    "auto_map": {"AutoConfig": "configuration_iquestpltcoder.IQuestPLTCoderConfig"},
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "bfloat16",
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 5120,
    "initializer_range": 0.02,
    "intermediate_size": 27648,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "iquestpltcoder",
    "num_attention_heads": 40,
    "num_hidden_layers": 14,
    "num_key_value_heads": 8,
    "plt_emb_scale": 0.707,
    "plt_gate_use_hidden_states": True,
    "plt_hidden_scale": 0.053,
    "plt_normalize_per_loop": True,
    "plt_num_loops": 2,
    "plt_window_size": [64, 0],
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000,
    "tie_word_embeddings": False,
    "vocab_size": 76800,
}


def test_the_released_file_is_the_preset() -> None:
    assert parse_config(RELEASED, "config.json") == loopcoder_v2()


def test_what_is_written_has_the_released_fields() -> None:
    written = config_json(loopcoder_v2(), dtype="bfloat16", base=RELEASED)
    assert json.loads(json.dumps(written)) == RELEASED
    assert config_json(loopcoder_v2(), dtype="bfloat16").keys() == RELEASED.keys() - {"auto_map"}


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        SMALL.with_(plt_emb_scale=None, plt_hidden_scale=None, plt_normalize_per_loop=False),
        SMALL.with_(plt_num_loops=5, plt_window_size=(3, 0), tie_word_embeddings=True),
    ],
)
def test_write_and_read_is_the_same(tmp_path: Path, config: ModelConfig) -> None:
    write_json(tmp_path / "config.json", config_json(config, dtype="float32"))
    assert read_config(tmp_path) == config


def test_rope_base_as_transformers_5_writes_it() -> None:
    values = {name: value for name, value in RELEASED.items() if not name.startswith("rope")}
    nested = {"rope_parameters": {"rope_theta": 12345.0, "rope_type": "default"}}
    assert parse_config(values | nested, "c").rope_theta == 12345.0
    # One spelling is written, so that the two never disagree.
    written = config_json(loopcoder_v2(), dtype="bfloat16", base=values | nested)
    assert "rope_parameters" not in written
    assert written["rope_theta"] == 500000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "llama3"}),
        ("rope_scaling", "linear"),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1.0}),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("attention_dropout", 0.1),
        ("hidden_act", "gelu"),
        ("quantization_config", {"quant_method": "gptq"}),
        ("partial_rotary_factor", 0.5),
        ("model_type", "something_else"),
        ("model_type", None),
        ("num_attention_heads", 39),
        ("num_attention_heads", 0),
        ("num_attention_heads", "40"),
        ("num_key_value_heads", 7),
        ("head_dim", 127),
        ("hidden_size", -1),
        ("hidden_size", 5120.5),
        ("plt_num_loops", 0),
        ("plt_num_loops", True),
        ("plt_window_size", [64, 1]),
        ("plt_window_size", [64]),
        ("plt_window_size", [-1, 0]),
        ("plt_window_size", 64),
        ("plt_window_size", None),
        ("rms_norm_eps", 0),
        ("rope_theta", -1),
        ("plt_emb_scale", "big"),
        ("vocab_size", None),
    ],
)
def test_an_impossible_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field) as caught:
        parse_config(RELEASED | {field: value}, "config.json")
    assert "\n" not in str(caught.value)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("field", ["vocab_size", "head_dim", "num_key_value_heads"])
def test_a_missing_field_is_named(field: str) -> None:
    values = {name: value for name, value in RELEASED.items() if name != field}
    with pytest.raises(ConfigError, match=f"{field} is missing"):
        parse_config(values, "config.json")


def test_related_models_get_advice() -> None:
    with pytest.raises(ConfigError, match="loopcoder convert"):
        parse_config(RELEASED | {"model_type": "llama"}, "c")
    with pytest.raises(ConfigError, match="older, different model"):
        parse_config(RELEASED | {"model_type": "iquestloopcoder"}, "c")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"vocab_size": NaN}', "\udcff", "[" * 100_000]
)
def test_damaged_json_is_one_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=r"config.json"):
        read_config(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.json does not exist"):
        read_config(tmp_path)
