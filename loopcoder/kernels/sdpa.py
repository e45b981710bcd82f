"""Attention through `torch.nn.functional.scaled_dot_product_attention`."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class SDPAttention:
    """torch's fused attention: flash kernels on the CPU, flash or memory-efficient ones on CUDA."""

    name = "sdpa"

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
        repeats = q_BTHK.shape[2] // k_BSGK.shape[2]
        # CUDA's masked kernels take no grouped heads, and fall back to plain mathematics for them.
        if repeats > 1 and mask_BTS is not None and q_BTHK.is_cuda:
            k_BSGK, v_BSGK = (x.repeat_interleave(repeats, dim=2) for x in (k_BSGK, v_BSGK))
            repeats = 1
        y_BHTK = scaled_dot_product_attention(
            q_BTHK.transpose(1, 2),
            k_BSGK.transpose(1, 2),
            v_BSGK.transpose(1, 2),
            attn_mask=None if mask_BTS is None else mask_BTS[:, None],
            is_causal=causal,
            enable_gqa=repeats > 1,
        )
        return y_BHTK.transpose(1, 2)


def backend() -> SDPAttention:
    """The registry's entry point."""
    return SDPAttention()
