"""Models with quantised weights: made from a float checkpoint while loading, or read back.

One group of matrices is read, quantised and prepared at a time, the largest first, so that the
peak is the quantised model and little more than one float matrix.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loopcoder.checkpoint.check import EMBEDDING, HEAD
from loopcoder.checkpoint.config_file import CONFIG_FILE, parse_config
from loopcoder.checkpoint.header import CheckpointHeader, open_checkpoint
from loopcoder.checkpoint.load import (
    auto_dtype,
    check_finite,
    check_tensors,
    load_state,
    load_tensor,
    map_tensor,
    stored_dtype,
    torch_dtype,
)
from loopcoder.checkpoint.packed import PackedInfo, check_packed
from loopcoder.checkpoint.packing import unpack
from loopcoder.checkpoint.quantization import (
    Quantization,
    Scheme,
    check_quantization_config,
    without_field,
)
from loopcoder.errors import CheckpointError, ConfigError
from loopcoder.kernels.grouped import GroupedWeight, QuantizationError, fitting_group, quantize
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from loopcoder.model.products import LinearGroup, install, linear_groups
from loopcoder.model.shapes import tensor_shapes

SCALE_DTYPE = torch.bfloat16  # that of the models; values are rounded with the scale as stored


@dataclass(frozen=True, kw_only=True)
class QuantizedSource:
    """A quantised model that is read piece by piece.

    `schemes` names the quantised matrices, which `weight` reads; every other tensor of `config`
    is in `header`. `dtype` is the format of those.
    """

    config: ModelConfig
    header: CheckpointHeader
    schemes: Mapping[str, Scheme]
    weight: Callable[[str], GroupedWeight]
    dtype: torch.dtype

    @property
    def floats(self) -> list[str]:
        """Names of the tensors that are not quantised, in model order."""
        return [name for name in tensor_shapes(self.config) if name not in self.schemes]


def load_quantized(
    directory: Path | str,
    values: Mapping[str, Any],
    *,
    dtype: str | torch.dtype,
    device: str | torch.device,
    check_values: bool,
    quantization: str | Quantization | None,
) -> PLT:
    """The quantised model in `directory`, whose config.json holds `values`; see `load_model`.

    A checkpoint that was saved quantised is loaded as it is, and refuses to become another kind.
    """
    where = str(Path(directory) / CONFIG_FILE)
    asked = Quantization.of(quantization) if isinstance(quantization, str) else quantization
    if not check_quantization_config(values, where):
        assert asked is not None
        source = open_float(directory, values, asked, device=device, check_values=check_values)
        return _build(source, dtype, device, check_values)
    source = open_packed(directory, values, device=device, check_values=check_values)
    bits = {scheme.bits for name, scheme in source.schemes.items() if name != HEAD}
    if asked is not None and bits != {asked.linears.bits}:
        has = ", ".join(f"int{one}" for one in sorted(bits))
        raise ConfigError(
            f"{where}: the weights are saved as {has}; to have int{asked.linears.bits}, quantise "
            "the float checkpoint"
        )
    return _build(source, dtype, device, check_values)


def open_float(
    directory: Path | str,
    values: Mapping[str, Any],
    quantization: Quantization,
    *,
    device: str | torch.device = "cpu",
    check_values: bool = True,
) -> QuantizedSource:
    """The float checkpoint in `directory`, each matrix quantised when it is asked for.

    A tied head becomes a matrix of its own: looking up needs the embedding as it is.
    """
    config = parse_config(values, str(Path(directory) / CONFIG_FILE))
    header = open_checkpoint(directory)
    check_tensors(header, config)
    if config.tie_word_embeddings:
        config = config.with_(tie_word_embeddings=False)
        header = replace(header, tensors={**header.tensors, HEAD: header.tensors[EMBEDDING]})
    schemes = _fitting_schemes(config, quantization, header)

    def weight(name: str) -> GroupedWeight:
        weight_NK = load_tensor(header.tensors[name], device=device)
        if check_values:
            check_finite(name, header.tensors[name], weight_NK)
        scheme = schemes[name]
        return quantize(weight_NK, scheme.bits, scheme.group, scale_dtype=SCALE_DTYPE)

    return QuantizedSource(
        config=config,
        header=header,
        schemes=schemes,
        weight=weight,
        dtype=auto_dtype(header, values),
    )


def _fitting_schemes(
    config: ModelConfig, quantization: Quantization, header: CheckpointHeader
) -> dict[str, Scheme]:
    """The scheme of each matrix, with a group that divides its inputs."""
    schemes: dict[str, Scheme] = {}
    for name, shape in tensor_shapes(config).items():
        if (scheme := quantization.scheme(name)) is not None:
            try:
                group = fitting_group(shape[1], scheme.group)
            except QuantizationError as error:
                raise CheckpointError(f"{header.tensors[name].file}: {name}: {error}") from error
            schemes[name] = replace(scheme, group=group)
    return schemes


def open_packed(
    directory: Path | str,
    values: Mapping[str, Any],
    *,
    device: str | torch.device = "cpu",
    check_values: bool = True,
) -> QuantizedSource:
    """The checkpoint in `directory` that was saved quantised."""
    config = parse_config(without_field(values), str(Path(directory) / CONFIG_FILE))
    header = open_checkpoint(directory)
    packed = check_packed(header, config)
    declared = values.get("dtype") or values.get("torch_dtype")
    return QuantizedSource(
        config=config,
        header=header,
        schemes={name: info.scheme for name, info in packed.items()},
        weight=lambda name: _read_packed(packed[name], device, check_values),
        dtype=torch_dtype(str(declared)) if declared else stored_dtype(header.tensors[EMBEDDING]),
    )


def _read_packed(info: PackedInfo, device: str | torch.device, check_values: bool) -> GroupedWeight:
    packed_NP, scale_NG, size = (map_tensor(part) for part in (info.packed, info.scale, info.shape))
    if tuple(size.tolist()) != info.size:
        raise CheckpointError(
            f"{info.shape.file}: {info.shape.key} is {size.tolist()}; config.json asks for "
            f"{list(info.size)}"
        )
    if check_values:
        check_finite(info.scale.key, info.scale, scale_NG)
    return unpack(packed_NP.to(device), scale_NG.to(device), info.size[1], info.scheme.bits)


def dequantized_state(
    directory: Path | str, values: Mapping[str, Any], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The float weights that a checkpoint saved quantised stands for, by their released names.

    `dtype` None takes the checkpoint's own. For programs that compute with plain matrices.
    """
    source = open_packed(directory, values)
    target = source.dtype if dtype is None else dtype
    state = load_state(source.header, source.floats, target)
    return state | {name: source.weight(name).dequantize(target) for name in source.schemes}


def _build(
    source: QuantizedSource, dtype: str | torch.dtype, device: str | torch.device, check: bool
) -> PLT:
    shapes = tensor_shapes(source.config)
    with torch.device("meta"):
        model = PLT(source.config)

    def quantized_size(group: LinearGroup) -> int:
        return sum(math.prod(shapes[name]) for name in group.weights if name in source.schemes)

    for group in sorted(linear_groups(source.config), key=quantized_size, reverse=True):
        if quantized_size(group):
            install(model, group, _weights_of(source, group))
    target = source.dtype if dtype == "auto" else torch_dtype(dtype)
    state = load_state(source.header, source.floats, target, device=device, check_values=check)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def _weights_of(source: QuantizedSource, group: LinearGroup) -> list[GroupedWeight]:
    """The weights of a group, which are one product and so must be of one kind."""
    if len({source.schemes.get(name) for name in group.weights}) > 1:
        kinds = ", ".join(f"{name} ({source.schemes.get(name, 'float')})" for name in group.weights)
        raise CheckpointError(f"{source.header.directory}: {kinds} must be quantised alike")
    return [source.weight(name) for name in group.weights]
