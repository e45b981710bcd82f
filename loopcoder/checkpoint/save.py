"""Writing checkpoints in the released layout (SPEC.md section 1), a shard at a time."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from torch import Tensor, nn

from loopcoder.checkpoint.check import HEAD
from loopcoder.checkpoint.config_file import CONFIG_FILE, config_json, read_config_json, write_json
from loopcoder.checkpoint.header import INDEX_FILE, SINGLE_FILE, open_checkpoint
from loopcoder.checkpoint.quantization import without_field
from loopcoder.checkpoint.staging import staged_directory
from loopcoder.errors import CheckpointError, ConfigError
from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import Shape, tensor_shapes

SHARD_SIZE = "5GB"

# What belongs to a checkpoint beside weights and configuration. Never code.
COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
)

Shards = Mapping[str, Iterable[str]]  # file name -> names of its tensors


def save_model(
    model: nn.Module | Mapping[str, Tensor],
    config: ModelConfig,
    directory: Path | str,
    *,
    shard_size: int | str | None = None,
    source: Path | str | None = None,
    extra: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Write `model` (a `PLT` or its state dict) as a checkpoint; the directory appears at once.

    `source` is the checkpoint it came from: its tokenizer files, its other config fields and,
    unless `shard_size` ("5GB" by default, or bytes) is given, its distribution over files are
    kept. `extra` are config fields to set. Weights are written bit for bit.
    Raises `CheckpointError` when a tensor does not fit `config`, the directory is taken (`force`
    replaces a checkpoint) or the disk is full.
    """
    tensors = model.state_dict() if isinstance(model, nn.Module) else model
    plan = _matching(tensors, config)
    shards = None
    if shard_size is None and source is not None:
        shards = _shards_of(Path(source), plan)
    return write_checkpoint(
        directory,
        config,
        plan,
        lambda name: plan[name],
        shards=shards or plan_shards(plan, shard_size or SHARD_SIZE),
        base={**_base(source), **(extra or {})},
        companions=companions_of(source),
        force=force,
    )


def write_checkpoint(
    directory: Path | str,
    config: ModelConfig,
    plan: Mapping[str, Tensor],
    tensor: Callable[[str], Tensor],
    *,
    shards: Shards,
    base: Mapping[str, Any] | None = None,
    companions: Callable[[Path], None] | None = None,
    dtype: torch.dtype | None = None,
    force: bool = False,
) -> Path:
    """Write the tensors of `plan`, which `tensor(name)` makes one shard at a time.

    `plan` gives formats and shapes and may be on the meta device; at most one shard is in memory.
    `base` are config fields to keep, `companions` writes tokenizer files and the like. `dtype` is
    the format that config.json names, that of most bytes unless given.
    """
    directory = Path(directory)
    nbytes = sum(planned.nbytes for planned in plan.values())
    with staged_directory(directory, force=force, nbytes=nbytes) as staging:
        for file, names in shards.items():
            _write_shard(staging / file, names, plan, tensor)
        if list(shards) != [SINGLE_FILE]:
            write_json(staging / INDEX_FILE, _index(plan, shards))
        name = main_dtype(plan) if dtype is None else _dtype_name(dtype)
        write_json(staging / CONFIG_FILE, config_json(config, dtype=name, base=base))
        if companions is not None:
            companions(staging)
    return directory


def _write_shard(
    path: Path, names: Iterable[str], plan: Mapping[str, Tensor], tensor: Callable[[str], Tensor]
) -> None:
    shard = {name: tensor(name).detach().cpu().contiguous() for name in names}
    for name, value in shard.items():
        assert (value.dtype, value.shape) == (plan[name].dtype, plan[name].shape), name
    save_file(shard, path, metadata={"format": "pt"})


def plan_shards(plan: Mapping[str, Tensor], shard_size: int | str) -> Shards:
    """Distribute tensors over files in order, as transformers does.

    `shard_size` is in bytes or like "2GB". Raises `ConfigError` for one that is not a size.
    """
    try:
        split = split_state_dict_into_shards_factory(
            dict(plan),
            get_storage_size=lambda planned: planned.nbytes,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=shard_size,
        )
    except ValueError as error:
        raise ConfigError(f"shard size is {shard_size!r}; write it like 500MB or 2GB") from error
    return split.filename_to_tensors


def planned(shapes: Mapping[str, Shape], dtype: torch.dtype) -> dict[str, Tensor]:
    """A plan of tensors that do not exist yet, on the meta device."""
    return {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()}


def main_dtype(plan: Mapping[str, Tensor]) -> str:
    """torch's name of the format that holds most bytes."""
    totals: dict[str, int] = {}
    for value in plan.values():
        name = _dtype_name(value.dtype)
        totals[name] = totals.get(name, 0) + value.nbytes
    return max(totals, key=lambda name: totals[name])


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def companions_of(source: Path | str | None) -> Callable[[Path], None]:
    """A function that copies tokenizer, chat template, generation settings and licence."""

    found = [] if source is None else [Path(source) / name for name in COMPANIONS]

    def copy(directory: Path) -> None:
        for path in found:
            if path.is_file():
                shutil.copyfile(path, directory / path.name)

    return copy


def _base(source: Path | str | None) -> dict[str, Any]:
    return {} if source is None else without_field(read_config_json(source))


def _index(plan: Mapping[str, Tensor], shards: Shards) -> dict[str, Any]:
    return {
        "metadata": {
            "total_parameters": sum(planned.numel() for planned in plan.values()),
            "total_size": sum(planned.nbytes for planned in plan.values()),
        },
        "weight_map": {name: file for file, names in shards.items() for name in names},
    }


def _matching(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of `config` in model order; a tied head may be there and is left out."""
    expected = tensor_shapes(config)
    for name, shape in expected.items():
        if name not in tensors:
            raise CheckpointError(f"{name} is missing from the model to be saved")
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{name} has the shape {list(tensors[name].shape)}; the configuration asks for "
                f"{list(shape)}"
            )
        if tensors[name].is_meta:
            raise CheckpointError(f"{name} has no values (meta device); load weights first")
    for name in tensors:
        if name not in expected and not (config.tie_word_embeddings and name == HEAD):
            raise CheckpointError(f"{name} does not belong to a model of this configuration")
    return {name: tensors[name] for name in expected}


def _shards_of(source: Path, plan: Mapping[str, Tensor]) -> Shards | None:
    """How `source` distributes its tensors, if it holds the same ones."""
    shards: dict[str, list[str]] = {}
    header = open_checkpoint(source)
    for name, info in header.tensors.items():
        shards.setdefault(info.file.name, []).append(name)
    same = header.tensors.keys() == plan.keys()
    return dict(sorted(shards.items())) if same else None
