"""Llama-family checkpoints made PLTs: the same logits with one loop, clear errors otherwise."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from loopcoder.checkpoint.config_file import read_config
from loopcoder.checkpoint.convert import convert
from loopcoder.checkpoint.header import open_checkpoint
from loopcoder.checkpoint.load import load_model, load_state
from loopcoder.checkpoint.loop_start import GATE_BIAS, STATE_SHARE
from loopcoder.errors import CheckpointError, ConfigError
from tests.checkpoint.conftest import edit_json

SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
TOKENS = torch.arange(1, 41).view(2, 20) % 96


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(TOKENS).logits


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_one_loop_has_the_same_logits(tmp_path: Path, tied: bool, kind: str) -> None:
    torch.manual_seed(0)
    shape = SHAPE | {"tie_word_embeddings": tied}
    if kind == "llama":
        original: Any = LlamaForCausalLM(LlamaConfig(**shape, head_dim=16, rope_theta=5000.0))
    else:
        original = MistralForCausalLM(MistralConfig(**shape, sliding_window=None))
    original.eval().save_pretrained(tmp_path / "llama", max_shard_size="20KB")
    directory = convert(tmp_path / "llama", tmp_path / "plt", shard_size="20KB")
    config = read_config(directory)
    assert (config.plt_num_loops, config.tie_word_embeddings) == (1, tied)
    torch.testing.assert_close(
        logits_of(load_model(directory)), logits_of(original), atol=1e-5, rtol=1e-5
    )
    before = load_state(open_checkpoint(tmp_path / "llama"))
    after = load_state(open_checkpoint(directory))
    assert all(torch.equal(after[name], before[name]) for name in after)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_more_loops_add_gates_that_start_as_asked(llama: Path, tmp_path: Path) -> None:
    directory = convert(
        llama,
        tmp_path / "plt",
        loops=3,
        gate_bias=4.0,
        dtype="bf16",
        changes={"plt_hidden_scale": 0.1, "plt_window_size": [8, 0]},
    )
    config = read_config(directory)
    assert (config.plt_num_loops, config.plt_hidden_scale, config.window) == (3, 0.1, 9)
    state = load_state(open_checkpoint(directory))
    gate = "model.layers.1.self_attn.plt_gate."
    assert state[gate + "weight"].eq(0).all()
    assert state[gate + "bias"].eq(4).all()
    assert state[gate + "gate_norm.weight"].eq(1).all()
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
    assert logits_of(load_model(directory)).isfinite().all()


def rms(tensor: torch.Tensor) -> float:
    return tensor.double().square().mean().sqrt().item()


def difference_of_loops(directory: Path) -> float:
    """rms(h^2 - h^1) / rms(h^1), on more tokens than the window holds."""
    with torch.inference_mode():
        first, second = load_model(directory)(torch.arange(1, 121)[None] % 96).loop_states
    return rms(second - first) / rms(first)


def test_more_loops_start_close_to_the_first(llama: Path, tmp_path: Path) -> None:
    directory = convert(llama, tmp_path / "plt", loops=2)
    config, state = read_config(directory), load_state(open_checkpoint(directory))
    embedding, norm = state["model.embed_tokens.weight"], state["model.norm.weight"]
    assert config.emb_scale == 1.0
    share = config.hidden_scale * rms(norm) / rms(embedding)
    assert share == pytest.approx(STATE_SHARE, rel=1e-3)
    assert state["model.layers.0.self_attn.plt_gate.bias"].eq(GATE_BIAS).all()
    paper = {"plt_emb_scale": 0.707, "plt_hidden_scale": 0.053}
    away = convert(llama, tmp_path / "paper", loops=2, gate_bias=0.0, changes=paper)
    assert 0 < difference_of_loops(directory) < 0.2
    assert difference_of_loops(directory) < 0.5 * difference_of_loops(away)


@pytest.mark.parametrize("loops", [2, 4])
def test_without_the_state_and_with_global_gates_every_loop_is_the_first(
    llama: Path, tmp_path: Path, loops: int
) -> None:
    directory = convert(
        llama, tmp_path / "plt", loops=loops, gate_bias=60.0, changes={"plt_hidden_scale": 0.0}
    )
    tokens = torch.arange(1, 121).view(1, 120) % 96
    with torch.inference_mode():
        first, *later = load_model(directory, dtype="float64")(tokens).loop_states
    assert len(later) == loops - 1
    assert all((state - first).abs().max() <= 1e-9 for state in later)


@pytest.mark.parametrize(
    ("changes", "scales"),
    [
        ({"plt_emb_scale": 0.707, "plt_hidden_scale": 0.053}, (0.707, 0.053)),
        ({"plt_emb_scale": None, "plt_hidden_scale": 0}, (None, 0)),
        ({"plt_normalize_per_loop": False, "plt_hidden_scale": 0.01}, (1.0, 0.01)),
    ],
)
def test_what_is_asked_for_is_not_chosen(
    llama: Path, tmp_path: Path, changes: dict[str, Any], scales: tuple[Any, Any]
) -> None:
    directory = convert(llama, tmp_path / "plt", loops=2, gate_bias=0.0, changes=changes)
    config, state = read_config(directory), load_state(open_checkpoint(directory))
    assert (config.plt_emb_scale, config.plt_hidden_scale) == scales
    assert state["model.layers.0.self_attn.plt_gate.bias"].eq(0).all()


def test_a_scale_that_cannot_be_chosen_has_to_be_given(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--set plt_hidden_scale"):
        convert(llama, tmp_path / "plt", loops=2, changes={"plt_normalize_per_loop": False})
    model = LlamaForCausalLM.from_pretrained(llama)
    model.model.norm.weight.data.zero_()
    model.save_pretrained(llama)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight has the root mean square 0"):
        convert(llama, tmp_path / "plt", loops=2)
    assert not (tmp_path / "plt").exists()


def test_special_tokens_and_companions_come_along(llama: Path, tmp_path: Path) -> None:
    edit_json(llama / "config.json", eos_token_id=[7, 9])
    (llama / "tokenizer_config.json").write_text("{}")
    directory = convert(llama, tmp_path / "plt")
    written = json.loads((directory / "config.json").read_text())
    assert written["eos_token_id"] == [7, 9]
    assert written["model_type"] == "iquestpltcoder"
    assert written["architectures"] == ["IQuestPLTCoderForCausalLM"]
    assert (directory / "tokenizer_config.json").is_file()
    assert (directory / "generation_config.json").is_file()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attention_bias", True),
        ("mlp_bias", True),
        ("hidden_act", "gelu"),
        ("rope_parameters", {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}),
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("model_type", "gpt_neox"),
        ("sliding_window", 16),
        ("num_attention_heads", None),
    ],
)
def test_what_a_plt_cannot_compute_is_refused(
    llama: Path, tmp_path: Path, field: str, value: Any
) -> None:
    edit_json(llama / "config.json", **{field: value})
    with pytest.raises(ConfigError, match=field):
        convert(llama, tmp_path / "plt")
    assert not (tmp_path / "plt").exists()


def test_changes_of_what_the_weights_fix_are_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hidden_size"):
        convert(llama, tmp_path / "plt", changes={"hidden_size": 64})
    with pytest.raises(ConfigError, match="--loops"):
        convert(llama, tmp_path / "plt", changes={"plt_num_loops": 2})
    with pytest.raises(ConfigError, match="plt_num_loops"):
        convert(llama, tmp_path / "plt", loops=0)


# --- GGUF ---------------------------------------------------------------------------------------


def pairs_of_halves(weights: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of q and k rows, as its converter makes it."""
    rows, width = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_gguf(path: Path, state: dict[str, torch.Tensor], **fields: Any) -> None:
    """A float32 GGUF of a Llama state dict; `fields` replace or, with None, remove keys."""
    writer = gguf.GGUFWriter(path, fields.pop("architecture", "llama"))
    writer.add_uint32("llama.context_length", 128)
    writer.add_uint32("llama.embedding_length", 32)
    writer.add_uint32("llama.block_count", fields.pop("block_count", 2))
    writer.add_uint32("llama.feed_forward_length", 48)
    writer.add_uint32("llama.attention.head_count", 4)
    writer.add_uint32("llama.attention.head_count_kv", 2)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    for name, value in fields.items():
        writer.add_string(name.replace("__", "."), value)
    names = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
    parts = {
        "input_layernorm": "attn_norm",
        "q_proj": "attn_q",
        "k_proj": "attn_k",
        "v_proj": "attn_v",
        "o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "gate_proj": "ffn_gate",
        "up_proj": "ffn_up",
        "down_proj": "ffn_down",
    }
    for name, tensor in state.items():
        pieces, array = name.split("."), tensor.numpy()
        part = pieces[-2]
        if part in ("q_proj", "k_proj"):
            array = pairs_of_halves(array, 4 if part == "q_proj" else 2)
        if len(pieces) > 3:
            writer.add_tensor(f"blk.{pieces[2]}.{parts.get(part, part)}.{pieces[-1]}", array)
        else:
            writer.add_tensor(f"{names[part]}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def llama_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE)).state_dict()


@pytest.mark.parametrize("tied", [False, True])
def test_gguf_has_the_weights_of_the_original(
    tmp_path: Path, llama_state: dict[str, torch.Tensor], tied: bool
) -> None:
    if tied:
        del llama_state["lm_head.weight"]
    write_gguf(tmp_path / "tiny.gguf", llama_state)
    directory = convert(tmp_path / "tiny.gguf", tmp_path / "plt")
    config = read_config(directory)
    assert (config.tie_word_embeddings, config.rms_norm_eps) == (tied, 1e-6)
    found = load_state(open_checkpoint(directory))
    assert found.keys() == llama_state.keys()
    assert all(torch.equal(found[name], llama_state[name]) for name in found)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"architecture": "qwen2"}, "qwen2"),
        ({"llama__rope__scaling__type": "yarn"}, "rope.scaling.type"),
        ({"block_count": 3}, "blk.2.attn_norm.weight"),
        ({"block_count": 1}, "blk.1"),
    ],
)
def test_gguf_that_is_another_model_is_refused(
    tmp_path: Path, llama_state: dict[str, torch.Tensor], fields: dict[str, Any], named: str
) -> None:
    write_gguf(tmp_path / "tiny.gguf", llama_state, **fields)
    with pytest.raises(CheckpointError, match=named):
        convert(tmp_path / "tiny.gguf", tmp_path / "plt")


def test_gguf_with_biases_is_refused(tmp_path: Path, llama_state: dict[str, torch.Tensor]) -> None:
    llama_state["model.layers.0.self_attn.v_proj.bias"] = torch.zeros(16)
    write_gguf(tmp_path / "tiny.gguf", llama_state)
    with pytest.raises(CheckpointError, match=r"blk.0.attn_v.bias"):
        convert(tmp_path / "tiny.gguf", tmp_path / "plt")


def test_damaged_gguf_is_one_error(tmp_path: Path, llama_state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama_state)
    content = path.read_bytes()
    for damaged in (content[:100], content[: len(content) // 2], b"GGML" + content[4:], b""):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"tiny.gguf"):
            convert(path, tmp_path / "plt")
    with pytest.raises(CheckpointError, match="neither"):
        convert(tmp_path / "none.gguf", tmp_path / "plt")
