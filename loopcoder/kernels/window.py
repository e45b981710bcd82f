"""Sliding-window attention in blocks, so that its cost grows with the window and not with T."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from loopcoder.kernels.attention import AttentionBackend
from loopcoder.kernels.masks import window_mask

SMALLEST_BLOCK = 64


def dense_window_attention(
    backend: AttentionBackend,
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGK: Tensor,
    window: int,
    document_BS: Tensor | None = None,
) -> Tensor:
    """The slow twin: one T x S mask. The queries are the last T of the S columns."""
    T, S = q_BTHK.shape[1], k_BSGK.shape[1]
    column_S = torch.arange(S, device=q_BTHK.device)
    mask_BTS = window_mask(column_S[S - T :], column_S, window)[None]
    if document_BS is not None:
        mask_BTS = mask_BTS & (document_BS[:, S - T :, None] == document_BS[:, None, :])
    return backend.attend(q_BTHK, k_BSGK, v_BSGK, mask_BTS=mask_BTS)


def window_attention(
    backend: AttentionBackend,
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGK: Tensor,
    window: int,
    document_BS: Tensor | None = None,
) -> Tensor:
    """Each of T queries over the last `window` keys, itself among them: [B, T, H, K].

    The queries are the last T of the S columns; `document_BS` (None: one document) bounds what
    they see. Queries go in blocks of `block`, each with the `block + window - 1` keys it can see.
    """
    B, T = q_BTHK.shape[:2]
    S = k_BSGK.shape[1]
    left, block = window - 1, max(window - 1, SMALLEST_BLOCK)
    if block + left >= S:
        return dense_window_attention(backend, q_BTHK, k_BSGK, v_BSGK, window, document_BS)
    count = -(-T // block)
    front, back = left - (S - T), count * block - T
    k_BJGK, v_BJGK = (_key_blocks(x, front, back, block, left) for x in (k_BSGK, v_BSGK))
    q_BJHK = pad(q_BTHK, (0, 0, 0, 0, 0, back)).unflatten(1, (count, block)).flatten(0, 1)
    mask = _block_mask(T, S, count, block, window, document_BS, q_BTHK.device)
    if mask.shape[0] != B:
        mask = mask.expand(B, -1, -1, -1)
    y_BJHK = backend.attend(q_BJHK, k_BJGK, v_BJGK, mask_BTS=mask.flatten(0, 1))
    y_BTHK: Tensor = y_BJHK.unflatten(0, (B, count)).flatten(1, 2)[:, :T]
    return y_BTHK


def _key_blocks(x_BSGK: Tensor, front: int, back: int, block: int, left: int) -> Tensor:
    """Overlapping runs of `left + block` keys, one run for each block of queries."""
    # A negative front drops stored keys that no query of this call can see.
    padded = pad(x_BSGK, (0, 0, 0, 0, front, back))
    return padded.unfold(1, left + block, block).movedim(-1, 2).flatten(0, 1)


def _block_mask(
    T: int,
    S: int,
    count: int,
    block: int,
    window: int,
    document_BS: Tensor | None,
    device: torch.device,
) -> Tensor:
    """[B or 1, blocks, block, left + block]: window, existing columns and documents."""
    left = window - 1
    start_J1 = (S - T) + block * torch.arange(count, device=device)[:, None]
    query_JT = start_J1 + torch.arange(block, device=device)
    key_JS = start_J1 - left + torch.arange(left + block, device=device)
    mask_BJTS = window_mask(query_JT, key_JS, window)[None]
    if document_BS is None:
        return mask_BJTS
    # Columns past the end share one made-up document, so that padded queries see themselves.
    document = pad(document_BS, (0, count * block - T), value=-2)
    document_BJT = document[:, query_JT]
    document_BJS = document[:, key_JS.clamp(min=0)]
    return mask_BJTS & (document_BJT[..., :, None] == document_BJS[..., None, :])
