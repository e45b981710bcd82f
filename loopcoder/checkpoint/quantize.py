"""Writing quantised checkpoints in the compressed-tensors layout, a shard at a time."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from loopcoder.checkpoint.config_file import read_config_json
from loopcoder.checkpoint.load import check_finite, load_tensor, stored_dtype
from loopcoder.checkpoint.packed import PACKED, SCALE, SHAPE, packed_width
from loopcoder.checkpoint.packing import pack
from loopcoder.checkpoint.quantization import FIELD, Quantization, quantization_json
from loopcoder.checkpoint.quantized import SCALE_DTYPE, QuantizedSource, open_float
from loopcoder.checkpoint.save import companions_of, plan_shards, write_checkpoint
from loopcoder.errors import ConfigError
from loopcoder.model.shapes import Shape, tensor_shapes

SHARD_SIZE = "2GB"  # also what writing takes in memory


def quantize_checkpoint(
    source: Path | str,
    directory: Path | str,
    quantization: Quantization,
    *,
    shard_size: int | str = SHARD_SIZE,
    force: bool = False,
) -> Path:
    """Write the float checkpoint `source` with quantised weights; everything else is kept.

    `load_model` of the result is, bit for bit, what `load_model(source, quantization=...)` gives.
    Raises `ConfigError` or `CheckpointError` as reading and writing do, and if `source` is
    quantised already.
    """
    values = read_config_json(source)
    if values.get(FIELD) is not None:
        raise ConfigError(f"{source}: the weights are quantised already; give the float checkpoint")
    weights = open_float(source, values, quantization)
    plan = _plan(weights)
    return write_checkpoint(
        directory,
        weights.config,
        plan,
        _reader(weights),
        shards=plan_shards(plan, shard_size),
        base={**values, FIELD: quantization_json(weights.schemes)},
        companions=companions_of(source),
        force=force,
        dtype=weights.dtype,
    )


def _plan(source: QuantizedSource) -> dict[str, Tensor]:
    """Every tensor of the new checkpoint, on the meta device, in model order."""
    plan: dict[str, Tensor] = {}
    for name, shape in tensor_shapes(source.config).items():
        scheme = source.schemes.get(name)
        if scheme is None:
            plan[name] = _planned(shape, stored_dtype(source.header.tensors[name]))
        else:
            out, inputs = shape
            plan[name + PACKED] = _planned((out, packed_width(inputs, scheme.bits)), torch.int32)
            plan[name + SCALE] = _planned((out, inputs // scheme.group), SCALE_DTYPE)
            plan[name + SHAPE] = _planned((2,), torch.int64)
    return plan


def _planned(shape: Shape, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _reader(source: QuantizedSource) -> Callable[[str], Tensor]:
    """Makes any tensor of the plan."""
    weight = lru_cache(maxsize=1)(source.weight)  # its three tensors are asked for in turn

    def tensor(name: str) -> Tensor:
        stem, part = _split(name)
        if part == PACKED:
            return pack(weight(stem))
        if part == SCALE:
            return weight(stem).scale
        if part == SHAPE:
            return torch.tensor(source.header.tensors[stem].shape)
        loaded = load_tensor(source.header.tensors[name])
        check_finite(name, source.header.tensors[name], loaded)
        return loaded

    return tensor


def _split(name: str) -> tuple[str, str]:
    """A tensor's name as that of the weight it belongs to, and which part of it."""
    for part in (PACKED, SCALE, SHAPE):
        if name.endswith(part):
            return name.removesuffix(part), part
    return name, ""
