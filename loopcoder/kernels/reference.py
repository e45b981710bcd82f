"""Attention in plain PyTorch: the truth that faster backends are compared with."""

import torch
from torch import Tensor


class ReferenceAttention:
    """Scores, mask, softmax, sum; float32 or better inside."""

    name = "reference"

    def supports(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Everywhere, every floating type."""
        return dtype.is_floating_point

    def attend(
        self,
        q_BTHK: Tensor,
        k_BSGK: Tensor,
        v_BSGK: Tensor,
        *,
        mask_BTS: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """See `AttentionBackend.attend`."""
        _, T, H, K = q_BTHK.shape
        S, G = k_BSGK.shape[1:3]
        q_BTGJK = q_BTHK.unflatten(2, (G, H // G))
        scores = torch.einsum("btgjk,bsgk->bgjts", q_BTGJK, k_BSGK) * K**-0.5
        if causal:
            mask_BTS = torch.ones(1, T, S, dtype=torch.bool, device=q_BTHK.device).tril()
        if mask_BTS is not None:
            scores = scores.masked_fill(~mask_BTS[:, None, None], float("-inf"))
        weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        y_BTGJK = torch.einsum("bgjts,bsgk->btgjk", weights.to(v_BSGK.dtype), v_BSGK)
        return y_BTGJK.flatten(2, 3)


def backend() -> ReferenceAttention:
    """The registry's entry point."""
    return ReferenceAttention()
