"""Attention over keys and values kept in pages: all rows of a group read them once (SPEC.md 2).

A pool holds P pages of p tokens, [P, p, G, K]; token j of a sequence lives in page `table[j // p]`,
slot `j % p`. A ring of W slots is W / p pages: order inside a softmax does not matter, so that a
row at position t sees the first min(t + 1, W) slots of it.
"""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec

import torch
from torch import Tensor

from loopcoder.kernels import native
from loopcoder.kernels.attention import attention_backend

FLOATS = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class PagedRows:
    """Which rows of a step see which pages; made once a step, used in every layer. All int32.

    Group g is `order_M[group_offsets[g] : group_offsets[g + 1]]`, indices into the queries; it
    reads row `group_table[g]` of the page tables `table_BP` (B sequences, at most P pages each).
    Row `order_M[m]` sees tokens 0 .. `length_M[m]` - 1, at least one. Table entries past a group's
    longest row are never read. `largest_group` and `longest` bound the groups' sizes and the
    lengths from above: known to whoever made the tensors, so that no device waits for the host.
    """

    table_BP: Tensor
    order_M: Tensor
    group_offsets: Tensor
    group_table: Tensor
    length_M: Tensor
    largest_group: int
    longest: int

    def __post_init__(self) -> None:
        """Check what can be checked without reading the tensors."""
        flat = (self.order_M, self.group_offsets, self.group_table, self.length_M)
        assert all(x.dtype == torch.int32 and x.stride(-1) == 1 for x in (self.table_BP, *flat))
        assert self.group_offsets.shape[0] == self.group_table.shape[0] + 1
        assert self.order_M.shape == self.length_M.shape

    @cached_property
    def place_M(self) -> tuple[Tensor, Tensor]:
        """Group of each row, and its place within the group."""
        row_M = torch.arange(self.order_M.shape[0], device=self.order_M.device)
        group_M = torch.searchsorted(self.group_offsets, row_M, right=True) - 1
        return group_M, row_M - self.group_offsets[group_M]

    def tensors(self) -> list[Tensor]:
        """The five index tensors."""
        flat = (self.order_M, self.group_offsets, self.group_table, self.length_M)
        return [self.table_BP, *flat]

    def over(self, tensors: Iterator[Tensor]) -> "PagedRows":
        """The same bounds over the next five of `tensors`, in the order of `tensors()`."""
        return PagedRows(
            table_BP=next(tensors),
            order_M=next(tensors),
            group_offsets=next(tensors),
            group_table=next(tensors),
            length_M=next(tensors),
            largest_group=self.largest_group,
            longest=self.longest,
        )

    @cached_property
    def native(self) -> "_NativeRows":
        """The same as the C++ library wants it."""
        return _NativeRows(
            self.table_BP.data_ptr(),
            self.order_M.data_ptr(),
            self.group_offsets.data_ptr(),
            self.group_table.data_ptr(),
            self.length_M.data_ptr(),
            self.table_BP.stride(0),
            *self.table_BP.shape,
            self.group_table.shape[0],
            self.order_M.shape[0],
        )


def paged_attention(
    q_NHK: Tensor, k_pool: Tensor, v_pool: Tensor, rows: PagedRows, out_NHK: Tensor
) -> None:
    """Softmax(q k / sqrt(K)) v of the rows in `rows.order_M`, written to the same rows of `out`.

    `q_NHK` and `out_NHK` [N, H, K] may be rows of something wider; other rows of `out` stay as
    they are. Pools [P, p, G, K] are contiguous, float32 or bfloat16, H a multiple of G. Sums are
    float32. A row's result depends on its own query, keys and length alone, bit for bit, whatever
    else is in the call and however many threads run it, where the native kernel does the work.
    """
    if not rows.order_M.shape[0] or _native_attention(q_NHK, k_pool, v_pool, rows, out_NHK):
        return
    if graphable(q_NHK.device, q_NHK.shape[-1]) and q_NHK.dtype == k_pool.dtype:
        from loopcoder.kernels.paged_triton import triton_attention

        triton_attention(q_NHK, k_pool, v_pool, rows, out_NHK)
    else:
        gathered_attention(q_NHK, k_pool, v_pool, rows, out_NHK)


@cache
def graphable(device: torch.device, head_dim: int) -> bool:
    """Whether attention there depends on tensors alone, so that a CUDA graph can repeat it."""
    power_of_two = head_dim >= 16 and head_dim & (head_dim - 1) == 0
    return device.type == "cuda" and power_of_two and find_spec("triton") is not None


def gathered_attention(
    q_NHK: Tensor, k_pool: Tensor, v_pool: Tensor, rows: PagedRows, out_NHK: Tensor
) -> None:
    """The slow twin of `paged_attention`, and its path on other devices: pages copied, padded."""
    group_M, place_M = rows.place_M
    order_M = rows.order_M.long()
    groups, T = rows.group_table.shape[0], rows.largest_group
    q_BTHK = q_NHK.new_zeros(groups, T, *q_NHK.shape[1:])
    q_BTHK[group_M, place_M] = q_NHK[order_M]
    # Places without a row see one token, as no softmax may be empty.
    length_BT = rows.length_M.new_ones(groups, T)
    length_BT[group_M, place_M] = rows.length_M
    seen_BTS = torch.arange(rows.longest, device=q_NHK.device) < length_BT[..., None]
    unused_BS = ~seen_BTS.any(1)
    k_BSGK, v_BSGK = (_gather(x, rows, unused_BS).to(q_NHK.dtype) for x in (k_pool, v_pool))
    backend = attention_backend(q_NHK.device, q_NHK.dtype)
    y_BTHK = backend.attend(q_BTHK, k_BSGK, v_BSGK, mask_BTS=seen_BTS)
    out_NHK[order_M] = y_BTHK[group_M, place_M]


def _gather(pool: Tensor, rows: PagedRows, unused_BS: Tensor) -> Tensor:
    """The groups' tokens in order, [B, S, G, K]; zero where memory holds nothing yet."""
    pages = -(-rows.longest // pool.shape[1])
    table_BP = rows.table_BP[rows.group_table, :pages].clamp(0, pool.shape[0] - 1)
    x_BSGK = pool[table_BP].flatten(1, 2)[:, : rows.longest]
    return x_BSGK.masked_fill(unused_BS[:, :, None, None], 0)


class _NativeRows(ctypes.Structure):
    """`lc_paged_rows` of csrc/attention.cpp."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("table", "order", "offsets", "group_table", "length")
    ) + tuple(
        (name, ctypes.c_int64)
        for name in ("table_stride", "table_rows", "table_width", "groups", "rows")
    )


@cache
def _kernel() -> Callable[..., int] | None:
    library = native.library()
    if library is None:
        return None
    kernel = library.lc_paged_attention
    kernel.restype = ctypes.c_int
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    kernel.argtypes = [
        ctypes.POINTER(_NativeRows),
        *(pointer, number, pointer, number, number, number, ctypes.c_int),  # queries and result
        *(pointer, pointer, number, number, number, number, ctypes.c_int),  # pools
        ctypes.c_int,
        ctypes.c_int,
    ]
    return kernel


@cache
def _pairs() -> bool:
    """Whether the processor multiplies bfloat16 pairs."""
    return "avx512bf16" in native.features()


def _native_attention(
    q_NHK: Tensor, k_pool: Tensor, v_pool: Tensor, rows: PagedRows, out_NHK: Tensor
) -> bool:
    """Run the C++ kernel; False where it does not apply."""
    kernel = _kernel()
    P, p, G, K = k_pool.shape
    N, H, _ = q_NHK.shape
    known = q_NHK.dtype in FLOATS and k_pool.dtype in FLOATS
    if kernel is None or K % 16 or not known or not q_NHK.is_cpu:
        return False
    assert all(x.is_contiguous() and x.shape == k_pool.shape for x in (k_pool, v_pool))
    assert k_pool.dtype == v_pool.dtype
    assert q_NHK.stride()[1:] == out_NHK.stride()[1:] == (K, 1)
    assert (out_NHK.dtype, out_NHK.shape) == (q_NHK.dtype, q_NHK.shape)
    bf16, pool_bf16 = q_NHK.dtype == torch.bfloat16, k_pool.dtype == torch.bfloat16
    failed = kernel(
        rows.native,
        *(q_NHK.data_ptr(), q_NHK.stride(0), out_NHK.data_ptr(), out_NHK.stride(0), N, H, bf16),
        *(k_pool.data_ptr(), v_pool.data_ptr(), P, p, G, K, pool_bf16),
        bf16 and pool_bf16 and _pairs(),
        torch.get_num_threads(),
    )
    assert not failed, "a page table, row or length points outside its memory"
    return True
