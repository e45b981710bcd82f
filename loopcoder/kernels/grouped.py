"""Weights of 8 or 4 bits with one scale for each group of inputs: symmetric, weight-only.

The canonical form, which checkpoints store and every kernel packs as it likes. The value of output
m and input k is `values[m, k] * scale[m, k // group]`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loopcoder.errors import LoopCoderError

BITS = (8, 4)
SCALE_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# Float copies of this many weights at a time are all the memory that quantising needs.
_BLOCK_WEIGHTS = 1 << 18
# With 4 bits, clipping the largest weights of a group serves all others: on normal weights the
# search lowers the squared error by a quarter, and a finer or wider one by another 0.5 %.
_SHRINK_4_BITS = tuple(1.0 - 0.025 * step for step in range(13))


class QuantizationError(LoopCoderError, ValueError):
    """A weight cannot be quantised as asked; the message names the shape, bits or group."""


@dataclass(frozen=True, kw_only=True)
class GroupedWeight:
    """A linear layer's weight [M outputs, K inputs] in `bits` bits.

    `values`: int8 [M, K] for 8 bits; for 4 bits uint8 [M, K / 2], each value + 8 in a nibble,
    even inputs in the low ones. `scale`: bfloat16, float16 or float32 [M, K / group].
    """

    bits: int
    group: int
    values: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise QuantizationError(f"bits is {self.bits}; weights can have 8 or 4")
        dtype = torch.int8 if self.bits == 8 else torch.uint8
        if self.values.dtype != dtype or self.values.dim() != 2:
            raise QuantizationError(
                f"values of {self.bits} bits are a {dtype} matrix; these are "
                f"{self.values.dtype} {list(self.values.shape)}"
            )
        M, K = self.shape
        if self.group < 1 or K % self.group:
            raise QuantizationError(f"groups of {self.group} do not divide {K} inputs")
        if self.scale.shape != (M, K // self.group) or self.scale.dtype not in SCALE_DTYPES:
            raise QuantizationError(
                f"the scale of a {M} x {K} weight in groups of {self.group} is a float matrix "
                f"[{M}, {K // self.group}]; this is {self.scale.dtype} {list(self.scale.shape)}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs M, inputs K)."""
        M, stored = self.values.shape
        return M, stored * 8 // self.bits

    @property
    def nbytes(self) -> int:
        """Bytes of values and scales."""
        return self.values.nbytes + self.scale.nbytes

    def integers(self) -> Tensor:
        """The values as int8 [M, K]."""
        if self.bits == 8:
            return self.values
        nibbles = torch.stack([self.values & 15, self.values >> 4], dim=-1).flatten(1)
        return nibbles.to(torch.int8) - 8

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The float weight [M, K] that this stands for, rounded to `dtype`."""
        scale = self.scale.float().unsqueeze(-1)
        value = self.integers().unflatten(1, (-1, self.group)).float()
        weight_MK: Tensor = (value * scale).to(dtype).flatten(1)
        return weight_MK

    def rows(self, first: int, last: int) -> "GroupedWeight":
        """Outputs `first` .. `last` - 1, as views."""
        return GroupedWeight(
            bits=self.bits,
            group=self.group,
            values=self.values[first:last],
            scale=self.scale[first:last],
        )

    def blocks(self) -> Iterator["GroupedWeight"]:
        """All outputs in order, a bounded number of weights at a time."""
        M, K = self.shape
        step = max(1, _BLOCK_WEIGHTS // K)
        return (self.rows(first, min(first + step, M)) for first in range(0, M, step))


def fitting_group(inputs: int, asked: int) -> int:
    """The largest of `asked`, `asked` / 2, `asked` / 4, ... that divides `inputs`.

    Raises `QuantizationError` where only groups under 8 would.
    """
    group = asked
    while group >= 8:
        if inputs % group == 0:
            return group
        group //= 2
    raise QuantizationError(
        f"{inputs} inputs cannot be split into groups of {asked} or a half, a quarter, ... of it "
        "down to 8; keep this weight in floating point"
    )


def quantize(
    weight_MK: Tensor, bits: int, group: int, *, scale_dtype: torch.dtype = torch.bfloat16
) -> GroupedWeight:
    """The nearest `GroupedWeight` of a float weight, block of rows by block of rows.

    Values are rounded with the scale as stored, so a short `scale_dtype` costs no accuracy. With 4
    bits each group tries a few scales and keeps the one of least squared error. Raises
    `QuantizationError` for an impossible group or a weight that is not finite.
    """
    if bits not in BITS:
        raise QuantizationError(f"bits is {bits}; weights can have 8 or 4")
    M, K = weight_MK.shape
    if group < 1 or K % group or (bits == 4 and K % 2):
        raise QuantizationError(f"groups of {group} do not divide {K} inputs")
    values = torch.empty(
        (M, K * bits // 8),
        dtype=torch.int8 if bits == 8 else torch.uint8,
        device=weight_MK.device,
    )
    scale = torch.empty((M, K // group), dtype=scale_dtype, device=weight_MK.device)
    step = max(1, _BLOCK_WEIGHTS // K)
    for first in range(0, M, step):
        rows = slice(first, min(first + step, M))
        grouped = weight_MK[rows].float().unflatten(1, (-1, group))
        scale[rows] = _scales(grouped, bits, scale_dtype)
        values[rows] = _stored(_rounded(grouped, scale[rows].float(), bits).flatten(1), bits)
    if not scale.isfinite().all():
        raise QuantizationError(f"the {M} x {K} weight holds values that are not finite")
    return GroupedWeight(bits=bits, group=group, values=values, scale=scale)


def concatenate(weights: Sequence[GroupedWeight]) -> GroupedWeight:
    """One weight with the outputs of all, in order; they must agree in everything else."""
    kinds = {(w.bits, w.group, w.shape[1], w.scale.dtype) for w in weights}
    if len(kinds) != 1:
        raise QuantizationError(
            "only weights of the same bits, group, inputs and scale type go into one; these are "
            + ", ".join(
                f"{b} bits, group {g}, {k} inputs, {d}" for b, g, k, d in sorted(kinds, key=str)
            )
        )
    return GroupedWeight(
        bits=weights[0].bits,
        group=weights[0].group,
        values=torch.cat([w.values for w in weights]),
        scale=torch.cat([w.scale for w in weights]),
    )


def _scales(grouped_MJG: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """One scale a group, as `dtype` stores it.

    With 4 bits its sign makes the largest weight negative, as -8 reaches further than 7.
    """
    largest_MJ1 = grouped_MJG.gather(-1, grouped_MJG.abs().argmax(-1, keepdim=True))
    full_MJ: Tensor = -largest_MJ1.squeeze(-1) / (2 ** (bits - 1) - 1)
    if bits == 8:
        return full_MJ.abs().to(dtype)
    best_MJ = full_MJ.to(dtype)
    error_MJ = _squared_error(grouped_MJG, best_MJ, bits)
    for shrink in _SHRINK_4_BITS[1:]:
        tried_MJ = (full_MJ * shrink).to(dtype)
        tried_error_MJ = _squared_error(grouped_MJG, tried_MJ, bits)
        better_MJ = tried_error_MJ < error_MJ
        best_MJ = torch.where(better_MJ, tried_MJ, best_MJ)
        error_MJ = torch.where(better_MJ, tried_error_MJ, error_MJ)
    return best_MJ


def _rounded(grouped_MJG: Tensor, scale_MJ: Tensor, bits: int) -> Tensor:
    """Integers of the values' range, as floats."""
    half = 2 ** (bits - 1)
    inverse_MJ = torch.where(scale_MJ != 0, scale_MJ.reciprocal(), 0.0)
    lowest = -half if bits == 4 else 1 - half
    integer_MJG: Tensor = (grouped_MJG * inverse_MJ.unsqueeze(-1)).round()
    return integer_MJG.clamp_(lowest, half - 1)


def _squared_error(grouped_MJG: Tensor, scale_MJ: Tensor, bits: int) -> Tensor:
    scale_MJ = scale_MJ.float()
    back_MJG = _rounded(grouped_MJG, scale_MJ, bits).mul_(scale_MJ.unsqueeze(-1))
    error_MJ: Tensor = back_MJG.sub_(grouped_MJG).square_().sum(-1)
    return error_MJ


def _stored(integer_MK: Tensor, bits: int) -> Tensor:
    if bits == 8:
        return integer_MK.to(torch.int8)
    nibble_MK = (integer_MK + 8).to(torch.uint8)
    byte_MJ: Tensor = nibble_MK[:, 0::2] | nibble_MK[:, 1::2] << 4
    return byte_MJ
