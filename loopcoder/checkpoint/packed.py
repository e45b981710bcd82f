"""Quantised weights in a checkpoint, from its headers: three tensors for a matrix. No torch.

`X.weight_packed` holds the integers, as unsigned fields of an int32 with the first input in the
lowest bits, `X.weight_scale` one factor a group, `X.weight_shape` [out, in].
"""

from dataclasses import dataclass, replace

from loopcoder.checkpoint.check import check_header
from loopcoder.checkpoint.dtypes import FORMATS
from loopcoder.checkpoint.header import CheckpointHeader, TensorInfo
from loopcoder.checkpoint.quantization import BITS, Scheme, is_linear
from loopcoder.errors import CheckpointError
from loopcoder.model.config import ModelConfig
from loopcoder.model.shapes import Shape, tensor_shapes

PACKED, SCALE, SHAPE = "_packed", "_scale", "_shape"  # behind the name of the weight
_WORD = 32  # bits


@dataclass(frozen=True, kw_only=True)
class PackedInfo:
    """Where one quantised matrix [out, in] lies, and how it is quantised."""

    name: str
    size: Shape
    scheme: Scheme
    packed: TensorInfo
    scale: TensorInfo
    shape: TensorInfo


def check_packed(header: CheckpointHeader, config: ModelConfig) -> dict[str, PackedInfo]:
    """The quantised weights of a checkpoint by name; every other tensor is checked as a float.

    Raises `CheckpointError`, naming file and tensor, unless `header` holds the model of `config`.
    """
    sizes = {name: size for name, size in tensor_shapes(config).items() if is_linear(name)}
    found = {
        name: _packed_weight(header, name, size)
        for name, size in sizes.items()
        if name + PACKED in header.tensors
    }
    parts = {name + part for name in found for part in (PACKED, SCALE, SHAPE)}
    plain = {name: info for name, info in header.tensors.items() if name not in parts}
    check_header(replace(header, tensors=plain), config, without=found)
    return found


def _packed_weight(header: CheckpointHeader, name: str, size: Shape) -> PackedInfo:
    packed = header.tensors[name + PACKED]
    scale, shape = (_part(header, packed, name + part) for part in (SCALE, SHAPE))
    bits = _bits(packed, size)
    if scale.dtype not in FORMATS:
        raise _wrong(scale, f"the format {scale.dtype}; it must be one of {', '.join(FORMATS)}")
    groups = scale.shape[1] if len(scale.shape) == 2 else 0
    if scale.shape[:1] != size[:1] or groups < 1 or size[1] % groups:
        raise _wrong(
            scale, f"the shape {list(scale.shape)}; it must be [{size[0]}, a divisor of {size[1]}]"
        )
    if shape.dtype not in ("I64", "I32") or shape.shape != (2,):
        raise _wrong(shape, f"{shape.dtype} {list(shape.shape)}; it must hold the two sides")
    scheme = Scheme(bits=bits, group=size[1] // groups)
    return PackedInfo(name=name, size=size, scheme=scheme, packed=packed, scale=scale, shape=shape)


def _part(header: CheckpointHeader, packed: TensorInfo, name: str) -> TensorInfo:
    if name not in header.tensors:
        raise CheckpointError(f"{packed.file}: {name} is missing, though {packed.key} is there")
    return header.tensors[name]


def _bits(packed: TensorInfo, size: Shape) -> int:
    """How many bits a value has, from the width of the packed matrix."""
    for bits in BITS:
        if packed.dtype == "I32" and packed.shape == (size[0], packed_width(size[1], bits)):
            return bits
    widths = " or ".join(f"{packed_width(size[1], bits)} ({bits} bits)" for bits in BITS)
    raise _wrong(
        packed, f"{packed.dtype} {list(packed.shape)}; it must be I32 [{size[0]}, {widths}]"
    )


def packed_width(inputs: int, bits: int) -> int:
    """int32 words that hold one row of `inputs` values."""
    return -(-inputs * bits // _WORD)


def _wrong(info: TensorInfo, has: str) -> CheckpointError:
    return CheckpointError(f"{info.file}: {info.key} has {has}")
