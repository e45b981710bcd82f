"""Paged attention on a GPU, as two Triton kernels: parts of the keys, then their merge.

Each program reads one key/value head of one group's keys once, for all its rows (SPEC.md section
2). Keys are split in a number of parts that does not depend on their count, so that a captured
CUDA graph serves every length.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from loopcoder.kernels.paged import PagedRows

BLOCK = 64  # tokens read at a time
PROGRAMS = 256  # about two for each multiprocessor of a large GPU
MOST_PARTS = 32


@triton.jit
def _parts(
    q, k, v, table, order, offsets, group_table, length, y_part, m_part, l_part,
    q_stride, table_stride, scale, parts,
    page: tl.constexpr, G: tl.constexpr, J: tl.constexpr, K: tl.constexpr,
    M: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """Softmax sums of one group, one key/value head and one part of the keys."""
    group, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    begin = tl.load(offsets + group)
    rows = tl.load(offsets + group + 1) - begin
    place = tl.arange(0, M)
    real = place // J < rows
    row = tl.load(order + begin + place // J, mask=real, other=0)
    seen = tl.load(length + begin + place // J, mask=real, other=0)
    dim = tl.arange(0, K)
    at = row.to(tl.int64) * q_stride + (head * J + place % J) * K
    q_MK = tl.load(q + at[:, None] + dim[None, :], mask=real[:, None], other=0.0)
    pages = table + tl.load(group_table + group).to(tl.int64) * table_stride
    longest = tl.max(seen, axis=0)
    width = tl.cdiv(tl.cdiv(longest, S), parts) * S
    largest = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    y_MK = tl.zeros([M, K], tl.float32)
    for start in range(part * width, tl.minimum((part + 1) * width, longest), S):
        token = start + tl.arange(0, S)
        there = token < longest
        slot = (
            tl.load(pages + token // page, mask=there, other=0).to(tl.int64) * page + token % page
        )
        key = (slot * G + head)[:, None] * K + dim[None, :]
        k_SK = tl.load(k + key, mask=there[:, None], other=0.0)
        v_SK = tl.load(v + key, mask=there[:, None], other=0.0)
        score = tl.dot(q_MK, tl.trans(k_SK), input_precision="ieee") * scale
        score = tl.where(token[None, :] < seen[:, None], score, float("-inf"))
        new = tl.maximum(largest, tl.max(score, axis=1))
        shift = tl.where(new == float("-inf"), 0.0, new)
        weight = tl.exp(score - shift[:, None])
        fade = tl.exp(largest - shift)
        total = total * fade + tl.sum(weight, axis=1)
        y_MK = y_MK * fade[:, None]
        y_MK += tl.dot(weight.to(v_SK.dtype), v_SK, input_precision="ieee")
        largest = new
    flat = ((group * G + head) * parts + part) * M + place
    tl.store(m_part + flat, largest)
    tl.store(l_part + flat, total)
    tl.store(y_part + flat.to(tl.int64)[:, None] * K + dim[None, :], y_MK)


@triton.jit
def _merge(
    y_part, m_part, l_part, out, order, offsets, out_stride, parts,
    G: tl.constexpr, J: tl.constexpr, K: tl.constexpr, M: tl.constexpr,
):  # fmt: skip
    """The parts' sums as one softmax, written to the rows of the result."""
    group, head = tl.program_id(0), tl.program_id(1)
    begin = tl.load(offsets + group)
    place, dim = tl.arange(0, M), tl.arange(0, K)
    real = place // J < tl.load(offsets + group + 1) - begin
    largest = tl.full([M], float("-inf"), tl.float32)
    for part in range(0, parts):
        flat = ((group * G + head) * parts + part) * M + place
        largest = tl.maximum(largest, tl.load(m_part + flat))
    largest = tl.where(real, largest, 0.0)
    total = tl.zeros([M], tl.float32)
    y_MK = tl.zeros([M, K], tl.float32)
    for part in range(0, parts):
        flat = ((group * G + head) * parts + part) * M + place
        fade = tl.exp(tl.load(m_part + flat) - largest)
        total += tl.load(l_part + flat) * fade
        y_MK += tl.load(y_part + flat.to(tl.int64)[:, None] * K + dim[None, :]) * fade[:, None]
    y_MK = y_MK / tl.where(total == 0.0, 1.0, total)[:, None]
    row = tl.load(order + begin + place // J, mask=real, other=0)
    at = row.to(tl.int64) * out_stride + (head * J + place % J) * K
    tl.store(out + at[:, None] + dim[None, :], y_MK.to(out.dtype.element_ty), mask=real[:, None])


def triton_attention(
    q_NHK: Tensor, k_pool: Tensor, v_pool: Tensor, rows: PagedRows, out_NHK: Tensor
) -> None:
    """See `paged_attention`; head dims are powers of two from 16 up, formats the same throughout.

    Queries and result may be rows of something wider, but heads lie side by side.
    """
    _, page, G, K = k_pool.shape
    J, groups = q_NHK.shape[1] // G, rows.group_table.shape[0]
    M = max(16, triton.next_power_of_2(rows.largest_group * J))
    parts = min(MOST_PARTS, max(1, PROGRAMS // (groups * G)))
    sums = q_NHK.new_empty((2, groups, G, parts, M), dtype=torch.float32)
    y_part = q_NHK.new_empty((groups, G, parts, M, K), dtype=torch.float32)
    _parts[groups, G, parts](
        q_NHK, k_pool, v_pool, rows.table_BP, rows.order_M, rows.group_offsets, rows.group_table,
        rows.length_M, y_part, sums[0], sums[1],
        q_NHK.stride(0), rows.table_BP.stride(0), K**-0.5, parts,
        page=page, G=G, J=J, K=K, M=M, S=BLOCK,
    )  # fmt: skip
    _merge[groups, G](
        y_part, sums[0], sums[1], out_NHK, rows.order_M, rows.group_offsets, out_NHK.stride(0),
        parts, G=G, J=J, K=K, M=M,
    )  # fmt: skip
