"""Who sees whom: document boundaries, causality and the sliding window as boolean masks.

Padding needs no mask of its own: a pad belongs to document -1, which no token belongs to, and
sees only pads, so that no softmax is ever empty.
"""

import torch
from torch import Tensor


def causal_mask(document_BS: Tensor, new: int) -> Tensor:
    """The last `new` of S tokens over all S, each within its document: bool [B, new, S]."""
    S = document_BS.shape[1]
    column_S = torch.arange(S, device=document_BS.device)
    same_BTS = document_BS[:, S - new :, None] == document_BS[:, None, :]
    return same_BTS & (column_S[None, :] <= column_S[S - new :, None])


def window_mask(query_T: Tensor, key_S: Tensor, window: int) -> Tensor:
    """Queries at columns `query_T` over keys at `key_S`, the last `window` each: bool [..., T, S].

    Negative key columns do not exist and are seen by nobody.
    """
    distance_TS = query_T.unsqueeze(-1) - key_S.unsqueeze(-2)
    return (distance_TS >= 0) & (distance_TS < window) & (key_S.unsqueeze(-2) >= 0)
