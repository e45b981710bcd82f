"""Products with a prepared weight, y = x W^T: one protocol, the implementation chosen per matrix.

Decoding is bound by reading weights. The native kernels read each weight once for all rows, with a
few rows at nearly the speed of memory; many rows are bound by arithmetic, and go to torch's matmul
where that is faster. A row's result does not depend on how many others a native kernel is given.
For inference: nothing here is recorded for gradients.
"""

import ctypes
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from loopcoder.kernels import native
from loopcoder.kernels.grouped import GroupedWeight
from loopcoder.kernels.memory import threads_for
from loopcoder.kernels.packed import TILE, PackedWeight, can_pack

# Float copies of a quantised weight are made this many bytes at a time: the last cache's share.
_EXPANDED_BYTES = 1 << 22
_ROWS_TO_PACK = 1024
_KERNEL_ROWS = 64  # the most that csrc/bf16.cpp takes at once


# On a CPU torch compiles a bfloat16 product anew for every number of rows, 0.7 MB that are never
# given back; many rows are therefore filled up to a multiple of this.
ROW_STEP = 32


class Product(Protocol):
    """y = x W^T with a W prepared for it: [..., K] to [..., M] in x's type, float32 or bfloat16."""

    name: str
    shape: tuple[int, int]
    nbytes: int

    def __call__(self, x: Tensor) -> Tensor:
        """`nbytes` of W are read for a call with few rows; `shape` is (M outputs, K inputs)."""
        ...


class TorchProduct:
    """A float weight on any device, by torch alone."""

    name = "torch"

    def __init__(self, weight_MK: Tensor) -> None:
        self.shape = (weight_MK.shape[0], weight_MK.shape[1])
        self.nbytes = weight_MK.nbytes
        self._weight_MK = weight_MK.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        return torch_linear(x, self._weight_MK)


class NativeBf16Product:
    """A bfloat16 weight in its own row-major memory, shared with the model's parameter.

    While `invariant` is set a row's result does not depend on how many others there are, bit for
    bit: the kernel then runs for any number of rows, block by block.
    """

    name = "native-bf16"
    invariant = False

    def __init__(self, weight_MK: Tensor) -> None:
        assert runs_native_bf16(weight_MK)
        self.shape = (weight_MK.shape[0], weight_MK.shape[1])
        self.nbytes = weight_MK.nbytes
        self._weight_MK = weight_MK.detach()
        self._kernel = _bf16_kernel()
        # Above 64 rows torch is as fast here; with AMX it is from 8 rows on.
        self._most_rows = 7 if "amx_bf16" in native.features() else _KERNEL_ROWS

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        M, K = self.shape
        rows = x.numel() // K
        if self.invariant and rows > _KERNEL_ROWS:
            blocks = x.reshape(rows, K).split(_KERNEL_ROWS)
            return torch.cat([self(block) for block in blocks]).view(*x.shape[:-1], M)
        most = _KERNEL_ROWS if self.invariant else self._most_rows
        if not 0 < rows <= most or x.dtype != torch.bfloat16:
            return torch_linear(x, self._weight_MK)
        x = x.contiguous()
        y = torch.empty((*x.shape[:-1], M), dtype=x.dtype)
        threads = threads_for(self.nbytes)
        self._kernel(x.data_ptr(), self._weight_MK.data_ptr(), y.data_ptr(), rows, M, K, threads)
        return y


class NativeGroupedProduct:
    """A quantised weight, packed for the native kernel.

    Rows are quantised to 8 bits over every 32 inputs: against the product with the dequantised
    weight this costs 0.55 % of the result's norm on normal inputs. Where torch has AMX, many rows
    go to its matmul instead, with the weight expanded block by block, and lose nothing; while
    `invariant` is set none do, and a row's result does not depend on how many others there are.
    """

    invariant = False

    def __init__(self, weight: GroupedWeight) -> None:
        self._packed = PackedWeight(weight)
        self.name = f"native-int{weight.bits}"
        self.shape = weight.shape
        self.nbytes = self._packed.nbytes
        self._most_rows = 64 if "amx_bf16" in native.features() else None

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        M, K = self.shape
        x_NK = x.reshape(-1, K).contiguous()
        if self.invariant or self._most_rows is None or x_NK.shape[0] <= self._most_rows:
            y_NM = self._packed.linear(x_NK)
        else:
            y_NM = self._expanded(x_NK)
        return y_NM.view(*x.shape[:-1], M)

    def _expanded(self, x_NK: Tensor) -> Tensor:
        (M, K), rows = self.shape, x_NK.shape[0]
        tiles = max(1, _EXPANDED_BYTES // (TILE * K * x_NK.element_size()))
        y_NM = torch.empty((rows, M), dtype=x_NK.dtype)
        for first in range(0, -(-M // TILE), tiles):
            weight_JK = self._packed.expand(first, tiles, x_NK.dtype)
            y_NM[:, first * TILE : first * TILE + weight_JK.shape[0]] = torch_linear(
                x_NK, weight_JK
            )
        return y_NM


class TorchInt4Product:
    """A 4-bit weight, packed for torch's own operator; float rows and sums, on any processor."""

    name = "torch-int4pack"

    def __init__(self, weight: GroupedWeight) -> None:
        assert torch_packs(weight)
        self.shape = weight.shape
        # In blocks, as the operator wants an int32 for each nibble; of 64 rows, as it packs them.
        blocks = [
            weight.rows(m, m + _ROWS_TO_PACK) for m in range(0, weight.shape[0], _ROWS_TO_PACK)
        ]
        packed = [
            torch.ops.aten._convert_weight_to_int4pack_for_cpu(block.integers().int() + 8, 1)
            for block in blocks
        ]
        self._packed = torch.cat(packed)
        scale_JM = weight.scale.T
        self._scale_and_zero_JM2 = torch.stack([scale_JM, torch.zeros_like(scale_JM)], dim=-1)
        self._group = weight.group
        self.nbytes = self._packed.nbytes + self._scale_and_zero_JM2.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        M, K = self.shape
        scale_and_zero = self._scale_and_zero_JM2.to(x.dtype)
        y_NM: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x.reshape(-1, K).contiguous(), self._packed, self._group, scale_and_zero
        )
        return y_NM.view(*x.shape[:-1], M)


class TorchGroupedProduct:
    """A quantised weight in its canonical form, dequantised in blocks: the slow twin."""

    def __init__(self, weight: GroupedWeight) -> None:
        self.name = f"torch-int{weight.bits}"
        self.shape = weight.shape
        self.nbytes = weight.nbytes
        self._weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        blocks = self._weight.blocks()
        return torch.cat([linear(x, block.dequantize(x.dtype)) for block in blocks], dim=-1)


def prepare(weight: Tensor | GroupedWeight, *, name: str | None = None) -> Product:
    """The fastest product with `weight` here, or the fastest that is "native" or "torch".

    A float weight stays where it is, shared with its owner; a quantised one is packed anew for its
    kernel, so its source can be dropped. Raises `ValueError` where `name` cannot run.
    """
    if name not in (None, "native", "torch"):
        raise ValueError(f"no product is called {name!r}; known: native, torch")
    if name != "torch":
        if isinstance(weight, GroupedWeight) and can_pack(weight):
            return NativeGroupedProduct(weight)
        if isinstance(weight, Tensor) and runs_native_bf16(weight):
            return NativeBf16Product(weight)
    if name == "native":
        raise ValueError("there is no native kernel for this weight on this machine")
    if isinstance(weight, Tensor):
        return TorchProduct(weight)
    return TorchInt4Product(weight) if torch_packs(weight) else TorchGroupedProduct(weight)


def torch_linear(x: Tensor, weight_MK: Tensor) -> Tensor:
    """x W^T by torch, in few sizes: see `ROW_STEP`."""
    M, K = weight_MK.shape
    rows = x.numel() // K
    more = -rows % ROW_STEP
    if not more or rows < ROW_STEP or not x.is_cpu or x.dtype != torch.bfloat16:
        return linear(x, weight_MK)
    filled_NK = pad(x.reshape(rows, K), (0, 0, 0, more))
    return linear(filled_NK, weight_MK)[:rows].view(*x.shape[:-1], M)


def torch_packs(weight: GroupedWeight) -> bool:
    """Whether torch's packed operator takes this weight."""
    return (
        weight.bits == 4
        and weight.values.is_cpu
        and weight.shape[0] % 16 == 0
        and weight.group in (32, 64, 128, 256)
    )


def runs_native_bf16(weight: Tensor) -> bool:
    """Whether csrc/bf16.cpp can multiply with this weight here."""
    return (
        weight.dtype == torch.bfloat16
        and weight.is_cpu
        and weight.is_contiguous()
        and _bf16_kernel() is not None
    )


@cache
def _bf16_kernel() -> Any:
    library = native.library()
    if library is None or "avx512bf16" not in native.features():
        return None
    pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    library.lc_linear_bf16.argtypes = [pointer, pointer, pointer, integer, size, size, integer]
    library.lc_linear_bf16.restype = None
    return library.lc_linear_bf16
