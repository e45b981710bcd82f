"""A `PLT` of any shape with random weights, float or quantised, made in memory in seconds."""

import torch
from torch import Tensor

from loopcoder.bench.fill import materialise
from loopcoder.checkpoint.quantization import Quantization, Scheme
from loopcoder.kernels.grouped import GroupedWeight, fitting_group
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from loopcoder.model.products import install, linear_groups
from loopcoder.model.shapes import tensor_shapes

_SCALE = 2e-4  # of a random integer's step: outputs stay finite through any number of layers


def random_model(
    config: ModelConfig, *, dtype: torch.dtype, device: torch.device, quantization: str | None
) -> PLT:
    """A model in evaluation mode; `quantization` None, "int8" or "int4" as when loading.

    Quantised matrices are drawn as integers, so that no float matrix is ever made.
    """
    if quantization is not None:
        config = config.with_(tie_word_embeddings=False)  # as quantising a checkpoint does
    with torch.device("meta"):
        model = PLT(config).to(dtype)
    if quantization is not None:
        _install_all(model, Quantization.of(quantization), device)
    materialise(model, device)
    model.tie()
    return model.eval()


def _install_all(model: PLT, quantization: Quantization, device: torch.device) -> None:
    shapes = tensor_shapes(model.config)
    for group in linear_groups(model.config):
        install(model, group, [_drawn(n, shapes[n], quantization, device) for n in group.weights])


def _drawn(
    name: str, shape: tuple[int, ...], quantization: Quantization, device: torch.device
) -> GroupedWeight:
    scheme = quantization.scheme(name)
    assert scheme is not None, f"{name} is among the linears, and they are all quantised"
    outputs, inputs = shape
    group = fitting_group(inputs, scheme.group)
    return GroupedWeight(
        values=_integers(scheme, outputs, inputs).to(device),
        scale=torch.full((outputs, inputs // group), _SCALE, dtype=torch.bfloat16, device=device),
        bits=scheme.bits,
        group=group,
    )


def _integers(scheme: Scheme, outputs: int, inputs: int) -> Tensor:
    """One random row for all outputs: as many bytes as real weights, made at memory's speed."""
    generator = torch.Generator().manual_seed(0)
    if scheme.bits == 8:
        row = torch.randint(-127, 128, (inputs,), dtype=torch.int8, generator=generator)
    else:  # two values a byte, each from 1 to 15
        low, high = torch.randint(1, 16, (2, inputs // 2), dtype=torch.uint8, generator=generator)
        row = low | high << 4
    return row.expand(outputs, -1).contiguous()
