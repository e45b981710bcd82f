"""The largest of each row, in one order everywhere: by value, equal ones by token id."""

import sys

import torch
from torch import Tensor
from torch.nn.functional import pad

_BLOCK = 64
_SHIFT, _BUCKETS = 20, 2048  # leading bits of a float32 without its sign: 8 buckets an octave


def ranked(x_BV: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` largest of each row in falling order: values [B, C], ids [B, C], and `known` [B].

    Only the first `known` places of a row are certain. Behind them stand equals of the last value,
    of which there may be more outside; ask again with a larger `count` where that matters. With
    `count` of V or more every place is certain.
    """
    if count >= x_BV.shape[-1]:
        values_BV, id_BV = x_BV.sort(dim=-1, descending=True, stable=True)
        return values_BV, id_BV, torch.full_like(id_BV[:, 0], x_BV.shape[-1])
    id_BC = _largest(x_BV, count).sort(dim=-1).values
    values_BC, order_BC = x_BV.gather(-1, id_BC).sort(dim=-1, descending=True, stable=True)
    return values_BC, id_BC.gather(-1, order_BC), (values_BC > values_BC[:, -1:]).sum(-1)


def _largest(x_BV: Tensor, count: int) -> Tensor:
    """Ids of the `count` largest, in any order.

    They lie in the `count` blocks with the largest maxima, and block maxima cost little: five
    times as fast as `topk` over 76,800 columns on a CPU.
    """
    blocks, rest = divmod(x_BV.shape[-1], _BLOCK)
    if rest or blocks < 4 * count:
        return x_BV.topk(count, sorted=False).indices
    block_BC = x_BV.unflatten(-1, (blocks, _BLOCK)).amax(-1).topk(count, sorted=False).indices
    inside = torch.arange(_BLOCK, device=x_BV.device)
    id_BC = (block_BC[..., None] * _BLOCK + inside).flatten(1)
    place_BC: Tensor = x_BV.gather(-1, id_BC).topk(count, sorted=False).indices
    largest_BC: Tensor = id_BC.gather(-1, place_BC)
    return largest_BC


def largest_holding(p_BV: Tensor, weight_BV: Tensor, need_B1: Tensor) -> Tensor:
    """The fewest of the largest `p`, but at least one, whose weights reach `need`: a mask [B, V].

    All of them if they do not reach it; of equal ones the first. The bits of a float32 that is not
    negative are ordered as its value: sums over buckets of the leading bits say in which bucket the
    limit lies, and only that bucket is sorted. A full sort takes 20 times as long on a CPU.
    """
    bucket_BV = (p_BV.contiguous().view(torch.int32) >> _SHIFT).long()
    sums_BN = torch.zeros(len(p_BV), _BUCKETS + 1, dtype=torch.float64, device=p_BV.device)
    sums_BN.scatter_add_(1, bucket_BV, weight_BV.double())
    reached_BN = sums_BN.flip(-1).cumsum(-1).flip(-1)
    need_B1 = need_B1.double().clamp(min=sys.float_info.min)
    last_B1 = ((reached_BN >= need_B1).sum(-1, keepdim=True) - 1).clamp_(min=0)
    above_B1 = reached_BN.gather(-1, last_B1 + 1)
    kept_BV = bucket_BV > last_B1
    row_E, id_E = (bucket_BV == last_B1).nonzero().unbind(-1)
    kept_BV[row_E, id_E] = _first_holding(
        p_BV[row_E, id_E], weight_BV[row_E, id_E], row_E, need_B1 - above_B1
    )
    return kept_BV


def _first_holding(p_E: Tensor, weight_E: Tensor, row_E: Tensor, need_B1: Tensor) -> Tensor:
    """Which of some elements are needed; they come row by row, in order of ids."""
    count_B = torch.bincount(row_E, minlength=len(need_B1))
    place_E = torch.arange(len(row_E), device=p_E.device) - (count_B.cumsum(0) - count_B)[row_E]
    p_BC = p_E.new_full((len(need_B1), int(count_B.max())), -1)
    p_BC[row_E, place_E] = p_E
    weight_BC = torch.zeros_like(p_BC, dtype=torch.float64)
    weight_BC[row_E, place_E] = weight_E.double()
    order_BC = p_BC.sort(dim=-1, descending=True, stable=True).indices
    before_BC = pad(weight_BC.gather(-1, order_BC).cumsum(-1), (1, -1))
    kept_BC = torch.zeros_like(p_BC, dtype=torch.bool)
    kept_BC.scatter_(1, order_BC, before_BC < need_B1)
    return kept_BC[row_E, place_E]
