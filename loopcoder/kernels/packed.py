"""`GroupedWeight` in the layout of csrc/grouped.cpp, and the two things that file does with it."""

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor

from loopcoder.kernels import native
from loopcoder.kernels.grouped import GroupedWeight
from loopcoder.kernels.memory import empty_in_huge_pages, threads_for

TILE = 16
BLOCK = 32
# csrc/grouped.cpp's enum.
_FLOATS = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}
_TILES_AT_ONCE = 16


def can_pack(weight: GroupedWeight) -> bool:
    """Whether this machine and this weight suit csrc/grouped.cpp."""
    return _kernels() is not None and weight.group % BLOCK == 0 and not weight.values.is_cuda


class PackedWeight:
    """A weight of M outputs and K inputs, in tiles of 16 outputs; needs nothing of its source."""

    def __init__(self, weight: GroupedWeight) -> None:
        assert can_pack(weight)
        self.shape = M, K = weight.shape
        self.bits, self.group = weight.bits, weight.group
        self._tiles = -(-M // TILE)
        self._values = empty_in_huge_pages(
            self._tiles, K // BLOCK, BLOCK * TILE * self.bits // 8, dtype=torch.uint8
        )
        self._scale = torch.zeros(self._tiles, K // self.group, TILE, dtype=weight.scale.dtype)
        for tile in range(0, self._tiles, _TILES_AT_ONCE):
            tiles = slice(tile, min(tile + _TILES_AT_ONCE, self._tiles))
            rows = weight.rows(tiles.start * TILE, min(tiles.stop * TILE, M))
            _pack_values(rows, self._values[tiles])
            _pack_scale(rows.scale, self._scale[tiles])
        self.nbytes = self._values.nbytes + self._scale.nbytes
        self._addresses = self._values.data_ptr(), self._scale.data_ptr()
        self._scale_type = _FLOATS[self._scale.dtype]

    def linear(self, x_NK: Tensor) -> Tensor:
        """x W^T for contiguous rows of float32 or bfloat16, each quantised to 8 bits: [N, M]."""
        assert x_NK.dtype in (torch.float32, torch.bfloat16)
        (N, K), M = x_NK.shape, self.shape[0]
        y_NM = torch.empty((N, M), dtype=x_NK.dtype)
        _kernels().lc_linear_grouped(
            x_NK.data_ptr(),
            *self._addresses,
            y_NM.data_ptr(),
            self.bits,
            _FLOATS[x_NK.dtype],
            self._scale_type,
            N,
            M,
            K,
            self.group,
            threads_for(self.nbytes),
        )
        return y_NM

    def expand(self, first_tile: int, tiles: int, dtype: torch.dtype) -> Tensor:
        """The float weight of some tiles of 16 outputs: [outputs, K]."""
        M, K = self.shape
        out = torch.empty((min(tiles * TILE, M - first_tile * TILE), K), dtype=dtype)
        _kernels().lc_expand_grouped(
            *self._addresses,
            out.data_ptr(),
            self.bits,
            self._scale_type,
            _FLOATS[dtype],
            M,
            K,
            self.group,
            first_tile,
            -(-out.shape[0] // TILE),
            threads_for(self.nbytes),
        )
        return out


def _pack_values(rows: GroupedWeight, out: Tensor) -> None:
    """Fill `out` [tiles, K / 32, bytes] in the order that csrc/grouped.cpp describes."""
    tiles, K = out.shape[0], rows.shape[1]
    offset = 128 if rows.bits == 8 else 8
    unsigned = torch.full((tiles * TILE, K), offset, dtype=torch.uint8)
    # Bytes wrap around as two's complement does, so no wider type is needed.
    unsigned[: rows.shape[0]] = rows.integers().view(torch.uint8) + offset
    # The 4 inputs of a step move as one number.
    step = unsigned.view(torch.int32).view(tiles, TILE, K // BLOCK, 8).permute(0, 2, 3, 1)
    if rows.bits == 4:
        step = step[:, :, :4] | step[:, :, 4:] << 4
    out.view(torch.int32).copy_(step.flatten(2))


def _pack_scale(scale_MJ: Tensor, out: Tensor) -> None:
    tiles, groups = out.shape[:2]
    padded = torch.zeros((tiles * TILE, groups), dtype=out.dtype)
    padded[: scale_MJ.shape[0]] = scale_MJ
    out.copy_(padded.view(tiles, TILE, groups).transpose(1, 2))


@cache
def _kernels() -> Any:
    """The library with this file's two functions declared; None where they cannot run."""
    library = native.library()
    if library is None or "avx512vnni" not in native.features():
        return None
    pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    linear, expand = library.lc_linear_grouped, library.lc_expand_grouped
    linear.argtypes = [pointer] * 4 + [integer] * 4 + [size] * 3 + [integer]
    expand.argtypes = [pointer] * 3 + [integer] * 3 + [size] * 5 + [integer]
    linear.restype = expand.restype = None
    return library
