"""Random weights made in place, at the speed of memory: one random block, again and again."""

import torch
from torch import Tensor, nn

_VALUES = 2**22
_STD = 0.02


def random_block(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normal values to fill tensors with; always the same ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.empty(_VALUES).normal_(0.0, _STD, generator=generator).to(device, dtype)


def fill(tensor: Tensor, block: Tensor) -> None:
    """Overwrite `tensor` with copies of `block`, nothing beside it in memory."""
    for piece in torch.split(tensor.view(-1), len(block)):
        piece.copy_(block[: len(piece)])


@torch.no_grad()
def materialise(model: nn.Module, device: torch.device) -> None:
    """Give a model on the meta device memory: random matrices, norms of 1, biases of 0."""
    model.to_empty(device=device)
    block: Tensor | None = None
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.fill_(1.0)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            if block is None or block.dtype != parameter.dtype:
                block = random_block(parameter.dtype, parameter.device)
            fill(parameter.data, block)
