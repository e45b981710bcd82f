"""Where each token of a padded or packed batch stands: its position and its document."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from loopcoder.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Positions and documents of T new tokens in each of B rows of a batch.

    `document_BT` is None when every row is one unpadded document. Otherwise documents count from
    0 in each row and pads are -1; `first_BT` marks tokens whose predecessor is another document's,
    where the cross-loop shift gives zero.
    """

    position_BT: Tensor
    document_BT: Tensor | None = None
    first_BT: Tensor | None = None


def plain_layout(B: int, T: int, device: torch.device, past: int = 0) -> Layout:
    """Unpadded rows that continue after `past` tokens."""
    return Layout(position_BT=torch.arange(past, past + T, device=device).expand(B, T))


def ragged_layout(
    B: int,
    T: int,
    *,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    last_document_B: Tensor | None = None,
) -> Layout:
    """Rows with padding (`attention_mask` [B, past + T], 0 on pads) or packed documents.

    A document starts where `position_ids` [B or 1, T] is 0 and at the first real token.
    `last_document_B` is each row's latest document when earlier tokens are cached (INTERFACE.md).
    """
    given = attention_mask if attention_mask is not None else position_ids
    assert given is not None, "a layout without mask and positions is a plain one"
    real_BS = _real_tokens(attention_mask, B, T, given.device)
    if position_ids is None:
        position_ids = (real_BS.cumsum(1) - 1).clamp(min=0)[:, -T:]
    position_BT = position_ids.expand(B, T)
    real_BT = real_BS[:, -T:]
    before_BT = pad(real_BS, (1, 0), value=False)[:, -T - 1 : -1]
    if last_document_B is not None and real_BS.shape[1] == T:
        before_BT = torch.cat([last_document_B[:, None] >= 0, before_BT[:, 1:]], dim=1)
    start_BT = real_BT & ((position_BT == 0) | ~before_BT)
    earlier = -1 if last_document_B is None else last_document_B[:, None]
    document_BT = torch.where(real_BT, start_BT.cumsum(1) + earlier, -1)
    return Layout(position_BT=position_BT, document_BT=document_BT, first_BT=start_BT | ~real_BT)


def _real_tokens(attention_mask: Tensor | None, B: int, T: int, device: torch.device) -> Tensor:
    if attention_mask is None:
        return torch.ones(B, T, dtype=torch.bool, device=device)
    if attention_mask.dim() != 2 or attention_mask.shape[0] != B or attention_mask.shape[1] < T:
        raise RequestError(
            f"attention_mask has shape {tuple(attention_mask.shape)}; expected [{B}, {T} or more], "
            "1 on real tokens and 0 on padding"
        )
    real_BS = attention_mask.bool()
    runs_B = (real_BS[:, 1:] & ~real_BS[:, :-1]).sum(1) + real_BS[:, 0]
    if bool((runs_B > 1).any()):
        raise RequestError(
            "attention_mask has a hole: zeros may stand before or after the real tokens of a row, "
            "not between them; remove the masked tokens instead"
        )
    return real_BS


def shift(h_BTD: Tensor, layout: Layout, carried_BD: Tensor | None = None) -> Tensor:
    """h_{t-1} for each t, zero before a document's first token (CLP, SPEC.md section 1).

    `carried_BD` is the state of the token before these T, when there is one.
    """
    before = torch.zeros_like(h_BTD[:, :1]) if carried_BD is None else carried_BD[:, None]
    shifted_BTD = torch.cat([before, h_BTD[:, :-1]], dim=1)
    if layout.first_BT is None:
        return shifted_BTD
    return shifted_BTD.masked_fill(layout.first_BT[..., None], 0.0)
