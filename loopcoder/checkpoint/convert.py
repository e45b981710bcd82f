"""A Llama-family model made a PLT (SPEC.md section 1): one loop without loss, more with gates."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loopcoder.checkpoint.changes import with_changes
from loopcoder.checkpoint.dtypes import dtype_name
from loopcoder.checkpoint.llama import LlamaSource, open_llama
from loopcoder.checkpoint.save import SHARD_SIZE, plan_shards, write_checkpoint
from loopcoder.errors import CheckpointError, ConfigError
from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import tensor_shapes


def convert(
    source: Path | str,
    directory: Path | str,
    *,
    loops: int = 1,
    dtype: str | None = None,
    gate_bias: float = 0.0,
    changes: Mapping[str, Any] | None = None,
    shard_size: int | str = SHARD_SIZE,
    force: bool = False,
) -> Path:
    """Write the model in `source` (a directory or a .gguf file) as a PLT of `loops` loops.

    One loop is the same model: every weight in its own format (GGUF: expanded to float32), unless
    `dtype` is given. More loops add gates, g = sigmoid(`gate_bias`) everywhere: 0 is the paper's
    start, half global and half local; large values start with global attention alone. `changes`
    are other config fields to set, such as `plt_hidden_scale`. One shard at a time is in memory.
    Raises `ConfigError` or `CheckpointError` for a model that a PLT cannot represent.
    """
    weights = open_source(Path(source))
    config = _config(weights.config, loops, changes or {})
    form: torch.dtype | None = None if dtype is None else getattr(torch, dtype_name(dtype))
    shapes = tensor_shapes(config)
    main = form or _most_common(weights)
    plan = {
        name: torch.empty(shape, dtype=form or weights.dtypes.get(name, main), device="meta")
        for name, shape in shapes.items()
    }

    def tensor(name: str) -> Tensor:
        if ".plt_gate." in name:
            return _gate(name, plan[name], gate_bias)
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


def _config(config: ModelConfig, loops: int, changes: Mapping[str, Any]) -> ModelConfig:
    fixed = {"plt_num_loops", *_shape_fields()} & changes.keys()
    if fixed:
        raise ConfigError(f"--set {min(fixed)}: the weights fix it; loops are given by --loops")
    return with_changes(config.with_(plt_num_loops=loops), changes)


def _shape_fields() -> set[str]:
    free = {"plt_window_size", "plt_emb_scale", "plt_hidden_scale", "plt_normalize_per_loop"}
    free |= {"plt_gate_use_hidden_states", "max_position_embeddings", "initializer_range"}
    return set(ModelConfig.field_names()) - free


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
