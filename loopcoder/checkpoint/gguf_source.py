"""A GGUF file of the Llama family, seen as a PLT of one loop.

Quantised tensors are expanded by the `gguf` library, one at a time. llama.cpp stores the rows of
q and k in pairs (x0, y0, x1, y1, ...) where the Hugging Face layout has halves (x0, x1, .., y0,
y1, ..), so those rows go back to their places.
"""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from loopcoder.checkpoint.check import HEAD
from loopcoder.checkpoint.config_file import write_json
from loopcoder.checkpoint.llama import LlamaSource
from loopcoder.errors import CheckpointError
from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import tensor_shapes

_TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    HEAD: "output.weight",
}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_IDS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}


def open_gguf(path: Path) -> LlamaSource:
    """The model in the GGUF file `path`; tensors are read as they are asked for, as float32.

    Raises `CheckpointError` for a damaged file or a model that cannot be a PLT without loss.
    """
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except (ValueError, IndexError, KeyError, OSError, struct.error) as error:
        raise CheckpointError(f"{path} cannot be read as GGUF: {error}; fetch it again") from error
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = _config(path, fields, tensors)
    stored = {name: _gguf_name(name) for name in tensor_shapes(config)}
    _check_tensors(path, config, stored, tensors)
    ids = {name: int(fields[key]) for name, key in _IDS.items() if key in fields}

    def read(name: str, dtype: torch.dtype) -> Tensor:
        return _read(path, config, name, tensors[stored[name]]).to(dtype)

    return LlamaSource(
        config=config,
        dtypes=dict.fromkeys(stored, torch.float32),
        tensor=read,
        base=ids,
        companions=_companions(path, fields, ids),
    )


def _gguf_name(name: str) -> str:
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    _, _, index, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{index}.{_LAYER_NAMES[part]}.weight"


def _config(path: Path, fields: Mapping[str, Any], tensors: Mapping[str, Any]) -> ModelConfig:
    arch = fields.get("general.architecture")
    if arch != "llama":
        raise CheckpointError(f"{path}: general.architecture is {arch!r}; only 'llama' is known")
    _check_plain(path, fields)
    try:
        heads = fields["llama.attention.head_count"]
        width = fields["llama.embedding_length"]
        head_dim = fields.get("llama.attention.key_length", width // heads)
        config = ModelConfig(
            vocab_size=int(tensors["token_embd.weight"].shape[1]),
            hidden_size=width,
            intermediate_size=fields["llama.feed_forward_length"],
            num_hidden_layers=fields["llama.block_count"],
            num_attention_heads=heads,
            num_key_value_heads=fields.get("llama.attention.head_count_kv", heads),
            head_dim=head_dim,
            max_position_embeddings=fields["llama.context_length"],
            rms_norm_eps=_shortest(fields["llama.attention.layer_norm_rms_epsilon"]),
            rope_theta=_shortest(fields.get("llama.rope.freq_base", 10000.0)),
            tie_word_embeddings="output.weight" not in tensors,
            plt_num_loops=1,
        )
    except KeyError as error:
        raise CheckpointError(f"{path}: {error.args[0]} is missing") from error
    turned = fields.get("llama.rope.dimension_count", head_dim)
    if turned != head_dim:
        raise CheckpointError(f"{path}: RoPE turns {turned} of {head_dim} dimensions, not all")
    return config


def _shortest(value: float) -> float:
    """The number that was meant by a float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _check_plain(path: Path, fields: Mapping[str, Any]) -> None:
    refused = {
        "llama.rope.scaling.type": ("none",),
        "llama.expert_count": (0,),
        "split.count": (0, 1),
    }
    for name, allowed in refused.items():
        if name in fields and fields[name] not in allowed:
            raise CheckpointError(
                f"{path}: {name} is {fields[name]!r}; scaled RoPE, experts and split files "
                "cannot be converted"
            )


def _check_tensors(
    path: Path, config: ModelConfig, stored: Mapping[str, str], tensors: Mapping[str, Any]
) -> None:
    for name, shape in tensor_shapes(config).items():
        if stored[name] not in tensors:
            raise CheckpointError(f"{path}: {stored[name]} is missing")
        found = tuple(int(side) for side in reversed(tensors[stored[name]].shape))
        if found != shape:
            raise CheckpointError(
                f"{path}: {stored[name]} has the shape {list(found)}, not {list(shape)}"
            )
    extra = sorted(set(tensors) - set(stored.values()))
    if extra:
        raise CheckpointError(
            f"{path}: unexpected {extra[0]}; models with biases or scaled RoPE cannot be converted"
        )


def _read(path: Path, config: ModelConfig, name: str, tensor: Any) -> Tensor:
    try:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
    except (NotImplementedError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: {tensor.name} has the format {tensor.tensor_type.name}, which the gguf "
            f"library cannot expand: {error}"
        ) from error
    shape = tensor_shapes(config)[name]
    weights = torch.from_numpy(np.array(values, dtype=np.float32).reshape(shape))
    if name.endswith("q_proj.weight"):
        return halves_of_pairs(weights, config.num_attention_heads)
    if name.endswith("k_proj.weight"):
        return halves_of_pairs(weights, config.num_key_value_heads)
    return weights


def halves_of_pairs(weights: Tensor, heads: int) -> Tensor:
    """Rows [heads * K, D] from llama.cpp's order of RoPE pairs to rotate-half's."""
    rows, width = weights.shape
    pairs = weights.view(heads, rows // heads // 2, 2, width)
    return pairs.transpose(1, 2).reshape(rows, width)


def _companions(
    path: Path, fields: Mapping[str, Any], ids: Mapping[str, int]
) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        if ids:
            write_json(directory / "generation_config.json", ids)
        if "tokenizer.ggml.model" in fields:
            _save_tokenizer(path, fields, directory)

    return write


def _save_tokenizer(path: Path, fields: Mapping[str, Any], directory: Path) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    except Exception as error:  # whatever transformers cannot make of it
        raise CheckpointError(f"{path}: its tokenizer cannot be rebuilt: {error}") from error
    tokenizer.chat_template = fields.get("tokenizer.chat_template", tokenizer.chat_template)
    tokenizer.save_pretrained(str(directory))
