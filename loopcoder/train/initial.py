"""The weights that training starts from."""

import hashlib
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from loopcoder.checkpoint.load import load_model
from loopcoder.train.recipe import Init


@torch.no_grad()
def set_initial_weights(model: nn.Module, init: Init, layers: int) -> None:
    """Draw every parameter anew; each depends on `init.seed` and its own name alone.

    So models that differ in their loop count, or in how they loop, start from the same weights. The
    gates, which some have not, start at g = 0.5: weight and bias 0, `gate_norm` 1 (SPEC.md section
    4).
    """
    for name, parameter in model.named_parameters():
        if name.endswith(("plt_gate.weight", "plt_gate.bias")):
            parameter.zero_()
        elif parameter.dim() == 1:
            parameter.fill_(1.0)
        else:
            parameter.copy_(_normal(name, parameter, init) * _std(name, init, layers))


def _normal(name: str, like: Tensor, init: Init) -> Tensor:
    digest = hashlib.sha256(f"{init.seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.randn(like.shape, generator=generator)


def _std(name: str, init: Init, layers: int) -> float:
    if "embed_tokens" in name:
        return init.embedding_std
    residual = name.endswith(("o_proj.weight", "down_proj.weight"))
    return init.std / math.sqrt(2 * layers) if residual and init.scale_residual else init.std


def load_weights(model: nn.Module, directory: Path) -> None:
    """Copy the weights of a checkpoint into `model`, converted to float32.

    Raises `ConfigError` or `CheckpointError` for a checkpoint that cannot be read.
    """
    model.load_state_dict(load_model(directory, dtype="float32").state_dict())
