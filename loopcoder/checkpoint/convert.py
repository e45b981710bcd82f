"""A Llama-family model made a PLT (SPEC.md section 1): one loop without loss, more with little."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loopcoder.checkpoint.changes import with_changes
from loopcoder.checkpoint.dtypes import dtype_name
from loopcoder.checkpoint.llama import LlamaSource, open_llama
from loopcoder.checkpoint.loop_start import GATE_BIAS, start_scales
from loopcoder.checkpoint.save import SHARD_SIZE, plan_shards, write_checkpoint
from loopcoder.errors import CheckpointError, ConfigError
from loopcoder.model.config import VARIANT_FIELDS, ModelConfig
from loopcoder.model.shapes import tensor_shapes


def convert(
    source: Path | str,
    directory: Path | str,
    *,
    loops: int = 1,
    dtype: str | None = None,
    gate_bias: float | None = None,
    changes: Mapping[str, Any] | None = None,
    shard_size: int | str = SHARD_SIZE,
    force: bool = False,
) -> Path:
    """Write the model in `source` (a directory or a .gguf file) as a PLT of `loops` loops.

    One loop is the same model: every weight in its own format (GGUF: expanded to float32), unless
    `dtype` is given. More loops start almost at the same model too (`loop_start`): scales a = 1 and
    a small b, and gates g = sigmoid(`gate_bias`) everywhere, nearly all global unless it is given;
    0 is the paper's start, half global and half local. `changes` are other config fields to set;
    `plt_emb_scale` and `plt_hidden_scale` (a and b) in it are taken as they are. One shard at a
    time is in memory.
    Raises `ConfigError` or `CheckpointError` for a model that a PLT cannot represent.
    """
    weights = open_source(Path(source))
    config = _config(weights, loops, changes or {})
    bias = GATE_BIAS if gate_bias is None else gate_bias
    form: torch.dtype | None = None if dtype is None else getattr(torch, dtype_name(dtype))
    shapes = tensor_shapes(config)
    main = form or _most_common(weights)
    plan = {
        name: torch.empty(shape, dtype=form or weights.dtypes.get(name, main), device="meta")
        for name, shape in shapes.items()
    }

    def tensor(name: str) -> Tensor:
        if ".plt_gate." in name:
            return _gate(name, plan[name], bias)
        return _finite(name, weights.tensor(name, plan[name].dtype))

    return write_checkpoint(
        directory,
        config,
        plan,
        tensor,
        shards=plan_shards(plan, shard_size),
        base=weights.base,
        companions=weights.companions,
        force=force,
    )


def open_source(path: Path) -> LlamaSource:
    """Look at what is to be converted. Raises `CheckpointError` when it is neither kind."""
    if path.is_dir():
        return open_llama(path)
    if path.suffix == ".gguf" and path.is_file():
        from loopcoder.checkpoint.gguf_source import open_gguf

        return open_gguf(path)
    raise CheckpointError(f"{path} is neither a checkpoint directory nor a .gguf file")


def _config(weights: LlamaSource, loops: int, changes: Mapping[str, Any]) -> ModelConfig:
    fixed = {"plt_num_loops", *_shape_fields()} & changes.keys()
    if fixed:
        raise ConfigError(f"--set {min(fixed)}: the weights fix it; loops are given by --loops")
    config = with_changes(weights.config.with_(plt_num_loops=loops), changes)
    return config.with_(**start_scales(weights, changes)) if loops > 1 else config


def _shape_fields() -> set[str]:
    free = {"plt_window_size", "plt_emb_scale", "plt_hidden_scale", "plt_normalize_per_loop"}
    free |= {"plt_gate_use_hidden_states", "max_position_embeddings", "initializer_range"}
    return set(ModelConfig.field_names()) - free - set(VARIANT_FIELDS)


def _most_common(weights: LlamaSource) -> torch.dtype:
    sizes: dict[torch.dtype, int] = {}
    for name, shape in tensor_shapes(weights.config).items():
        form = weights.dtypes[name]
        sizes[form] = sizes.get(form, 0) + math.prod(shape)
    return max(sizes, key=lambda form: sizes[form])


def _gate(name: str, planned: Tensor, bias: float) -> Tensor:
    value = 0.0
    if name.endswith(".bias"):
        value = bias
    elif name.endswith("gate_norm.weight"):
        value = 1.0
    return torch.full(planned.shape, value, dtype=planned.dtype)


def _finite(name: str, tensor: Tensor) -> Tensor:
    low, high = torch.aminmax(tensor)
    if not (math.isfinite(low.item()) and math.isfinite(high.item())):
        raise CheckpointError(f"{name} holds NaN or infinity as {tensor.dtype}; not written")
    return tensor
