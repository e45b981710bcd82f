"""Small checkpoints on disk, and ways to damage them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from loopcoder.checkpoint.save import save_model
from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import tensor_shapes

SMALL = ModelConfig(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=128,
)


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random_state(
    config: ModelConfig, dtype: torch.dtype = torch.float32, seed: int = 0
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator).to(dtype)
        for name, shape in tensor_shapes(config).items()
    }


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return random_state(SMALL)


@pytest.fixture
def single(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    """A checkpoint in one file."""
    return save_model(state, SMALL, tmp_path / "single")


@pytest.fixture
def sharded(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    """The same checkpoint in several files."""
    directory = save_model(state, SMALL, tmp_path / "sharded", shard_size="20KB")
    assert len(list(directory.glob("*.safetensors"))) > 2
    return directory


def edit_json(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text())
    for name, value in changes.items():
        values[name] = value
    path.write_text(json.dumps(values))


def edit_tensors(directory: Path, **changes: torch.Tensor | None) -> None:
    """Set or remove (None) tensors of a one-file checkpoint; `__` stands for a dot."""
    path = directory / "model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path, metadata={"format": "pt"})
