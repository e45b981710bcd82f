"""A Llama-family checkpoint directory, seen as a PLT of one loop.

The layers of a PLT are Llama's and keep their names, so that one loop of it is the same model,
bit for bit. What a PLT cannot compute (biases, scaled RoPE, sliding windows) is refused by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loopcoder.checkpoint.config_file import (
    CONFIG_FILE,
    check_plain_decoder,
    read_config_json,
    rope_theta,
)
from loopcoder.checkpoint.header import CheckpointHeader, open_checkpoint
from loopcoder.checkpoint.load import check_tensors, load_tensor, stored_dtype
from loopcoder.checkpoint.save import companions_of
from loopcoder.errors import ConfigError
from loopcoder.model.config import MODEL_TYPE, ModelConfig
from loopcoder.model.shapes import tensor_shapes

_FAMILY = ("llama", "mistral")
_KEPT_FIELDS = ("bos_token_id", "eos_token_id", "pad_token_id")
# What transformers' LlamaConfig takes for a field that config.json leaves out.
_DEFAULTS = {"rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "initializer_range": 0.02}
_ROPE_THETA = 10000.0
_BUFFER = ".rotary_emb.inv_freq"  # old checkpoints carry it; it follows from rope_theta


@dataclass(frozen=True, kw_only=True)
class LlamaSource:
    """Weights to make a PLT of: its configuration with one loop, and each tensor by PLT name."""

    config: ModelConfig
    dtypes: Mapping[str, torch.dtype]
    tensor: Callable[[str, torch.dtype], Tensor]
    base: Mapping[str, Any]  # fields for config.json
    companions: Callable[[Path], None]


def open_llama(directory: Path) -> LlamaSource:
    """The Llama or Mistral checkpoint in `directory`, headers only.

    Raises `ConfigError` or `CheckpointError` for what cannot be a PLT without loss.
    """
    where = str(directory / CONFIG_FILE)
    values = read_config_json(directory)
    config = llama_config(values, where)
    header = open_checkpoint(directory)
    kept = {name: info for name, info in header.tensors.items() if not name.endswith(_BUFFER)}
    header = replace(header, tensors=kept)
    check_tensors(header, config)
    return LlamaSource(
        config=config,
        dtypes={name: stored_dtype(header.tensors[name]) for name in tensor_shapes(config)},
        tensor=_reader(header),
        base={name: values[name] for name in _KEPT_FIELDS if values.get(name) is not None},
        companions=companions_of(directory),
    )


def _reader(header: CheckpointHeader) -> Callable[[str, torch.dtype], Tensor]:
    def read(name: str, dtype: torch.dtype) -> Tensor:
        return load_tensor(header.tensors[name], dtype)

    return read


def llama_config(values: Mapping[str, Any], where: str) -> ModelConfig:
    """The PLT of one loop that a Llama `config.json` describes."""
    model_type = values.get("model_type")
    if model_type == MODEL_TYPE:
        raise ConfigError(f"{where}: this is a Parallel Loop Transformer already")
    if model_type not in _FAMILY:
        raise ConfigError(
            f"{where}: model_type is {model_type!r}; only {' and '.join(_FAMILY)} can be converted"
        )
    check_plain_decoder(values, where)
    _check_no_window(values, where)
    try:
        heads, width = values["num_attention_heads"], values["hidden_size"]
        return ModelConfig.from_mapping(
            {
                **_DEFAULTS,
                "num_key_value_heads": heads,
                **{name: value for name, value in values.items() if value is not None},
                "head_dim": values.get("head_dim") or width // heads,
                "rope_theta": rope_theta(values, _ROPE_THETA),
                "plt_num_loops": 1,
            }
        )
    except KeyError as error:
        raise ConfigError(f"{where}: {error.args[0]} is missing") from error
    except (ConfigError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_no_window(values: Mapping[str, Any], where: str) -> None:
    window = values.get("sliding_window")
    positions = values.get("max_position_embeddings", _DEFAULTS["max_position_embeddings"])
    if window is not None and window < positions and values.get("use_sliding_window", True):
        raise ConfigError(
            f"{where}: sliding_window is {window}; loop 1 attends to everything, so a model that "
            "was trained with a window cannot be converted"
        )
