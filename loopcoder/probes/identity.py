"""The `Source` that every row names: which model, which text, which machine, when."""

import hashlib
import sys
from datetime import UTC, datetime
from importlib.metadata import version

import torch

from loopcoder.checkpoint.identity import architecture_hash
from loopcoder.model.config import ModelConfig
from loopcoder.model.cost import parameters
from loopcoder.model.plt import PLT
from loopcoder.records import machine
from loopcoder.records.rows import DataIdentity, ModelIdentity, Source


def source_of(
    model: PLT,
    *,
    name: str,
    data: DataIdentity,
    model_hash: str | None = None,
    seed: int | None = None,
    command: str | None = None,
    arm: str | None = None,
) -> Source:
    """Where rows about `model` come from.

    `model_hash` is a checkpoint's (`checkpoint_hash`); without it the weights in memory are
    hashed. `command` is this process's own if not given; `arm` as in `ModelIdentity`.
    """
    dtype = str(model.model.embed_tokens.weight.dtype).removeprefix("torch.")
    return Source(
        command=" ".join(sys.argv) if command is None else command,
        version=version("loopcoder"),
        model=model_identity(
            model.config,
            name=name,
            model_hash=model_hash or weights_hash(model),
            dtype=dtype,
            arm=arm,
        ),
        data=data,
        seed=seed,
        machine={**machine(), "threads": torch.get_num_threads()},
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def model_identity(
    config: ModelConfig, *, name: str, model_hash: str, dtype: str, arm: str | None = None
) -> ModelIdentity:
    """What rows say of a model with this configuration."""
    return ModelIdentity(
        name=name,
        hash=model_hash,
        architecture=architecture_hash(config),
        trained_loops=config.plt_num_loops,
        parameters=parameters(config).total,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        width=config.hidden_size,
        window=config.window,
        dtype=dtype,
        arm=arm,
    )


def weights_hash(model: PLT) -> str:
    """sha256 of configuration and weights as they are in memory, the first 16 digits."""
    digest = hashlib.sha256(repr(model.config).encode())
    for name, tensor in sorted(model.state_dict().items()):
        raw = tensor.detach().cpu().contiguous().view(torch.uint8)
        digest.update(name.encode() + raw.numpy().tobytes())
    return digest.hexdigest()[:16]
