"""Random checkpoints of any size, written in a stream: at most one shard is in memory.

A tensor's values depend on the seed and its name alone, not on the format or the distribution
over files, so that the same model can be written twice in different ways and compared.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from loopcoder.checkpoint.config_file import read_config_json
from loopcoder.checkpoint.dtypes import dtype_name
from loopcoder.checkpoint.quantization import without_field
from loopcoder.checkpoint.save import companions_of, plan_shards, planned, write_checkpoint
from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import Shape, tensor_shapes

SHARD_SIZE = "2GB"  # also what writing takes in memory
_CHUNK = 2**22  # values drawn at once; part of what a seed means


def init_checkpoint(
    directory: Path | str,
    config: ModelConfig,
    *,
    dtype: str = "bfloat16",
    shard_size: int | str = SHARD_SIZE,
    seed: int = 0,
    source: Path | str | None = None,
    force: bool = False,
) -> Path:
    """Write a checkpoint of `config` with random weights; tokenizer files come from `source`.

    Matrices are normal(0, `initializer_range`), norms 1, gates 0, so that the first gate is
    g = 0.5 (SPEC.md section 4). Raises `CheckpointError` when the directory is taken or the disk
    too full, before anything is written.
    """
    shapes = tensor_shapes(config)
    form: torch.dtype = getattr(torch, dtype_name(dtype))
    plan = planned(shapes, form)
    return write_checkpoint(
        directory,
        config,
        plan,
        lambda name: random_tensor(
            name, shapes[name], dtype=form, std=config.initializer_range, seed=seed
        ),
        shards=plan_shards(plan, shard_size),
        base=without_field(read_config_json(source)) if source is not None else None,
        companions=companions_of(source),
        force=force,
    )


def random_tensor(
    name: str, shape: Shape, *, dtype: torch.dtype, std: float, seed: int = 0
) -> Tensor:
    """The initial value of the tensor that a checkpoint calls `name`."""
    if name.endswith("norm.weight"):
        return torch.ones(shape, dtype=dtype)
    if ".plt_gate." in name:
        return torch.zeros(shape, dtype=dtype)
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    result = torch.empty(shape, dtype=dtype)
    for piece in torch.split(result.view(-1), _CHUNK):
        piece.copy_(torch.empty(len(piece)).normal_(0.0, std, generator=generator))
    return result
