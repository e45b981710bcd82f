"""What `from_pretrained` needs, read and checked by our own reader instead of transformers'."""

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from loopcoder.checkpoint.config_file import CONFIG_FILE, read_config_json
from loopcoder.checkpoint.header import open_checkpoint
from loopcoder.checkpoint.load import check_tensors, load_state
from loopcoder.checkpoint.locate import locate
from loopcoder.checkpoint.quantization import check_quantization_config
from loopcoder.hf.configuration import PLTCoderConfig
from loopcoder.model.shapes import tensor_shapes

_HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "force_download")
_ANSWERED_HERE = ("trust_remote_code", "use_safetensors", "_commit_hash", "weights_only")


def checked_arguments(
    name: str | PathLike[str], arguments: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """The directory of checkpoint `name`, and arguments that load it through a state dict.

    Every tensor is present, of the right shape and finite, or `CheckpointError` says which is not.
    """
    hub = {key: arguments[key] for key in _HUB_OPTIONS if key in arguments}
    directory = locate(name, **hub) / str(arguments.get("subfolder") or "")
    dropped = {*_HUB_OPTIONS, *_ANSWERED_HERE, "subfolder"}
    kept = {key: value for key, value in arguments.items() if key not in dropped}
    config = kept.pop("config", None)
    if not isinstance(config, PLTCoderConfig):
        config, kept = PLTCoderConfig.from_pretrained(
            config or directory, return_unused_kwargs=True, **kept
        )
    state = _state(directory, config, _wanted_dtype(kept))
    return directory, {**kept, "config": config, "state_dict": state}


def _state(directory: Path, config: PLTCoderConfig, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Float weights by name; those that were saved quantised as what they stand for."""
    values = read_config_json(directory)
    if check_quantization_config(values, str(directory / CONFIG_FILE)):
        from loopcoder.checkpoint.quantized import dequantized_state

        del config.quantization_config  # the model holds plain weights from here on
        return dequantized_state(directory, values, dtype)
    shape = config.shape()
    header = open_checkpoint(directory)
    check_tensors(header, shape)
    state = load_state(header, list(tensor_shapes(shape)), dtype)
    if shape.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    return state


def read_generation_config(directory: Path) -> GenerationConfig | None:
    """`generation_config.json`, where the checkpoint has one."""
    if not (directory / "generation_config.json").is_file():
        return None
    return GenerationConfig.from_pretrained(directory)


def _wanted_dtype(arguments: dict[str, Any]) -> torch.dtype | None:
    """The dtype asked for by name or object; None keeps the files'."""
    wanted = arguments.get("dtype", arguments.get("torch_dtype"))
    if isinstance(wanted, str) and wanted != "auto":
        return getattr(torch, wanted, None)
    return wanted if isinstance(wanted, torch.dtype) else None
