"""The attention protocol, and the registry that picks a backend once."""

from typing import Protocol

import torch
from torch import Tensor


class AttentionBackend(Protocol):
    """Softmax(q k / sqrt(K)) v with grouped key/value heads (GQA)."""

    name: str

    def supports(self, device: torch.device, dtype: torch.dtype) -> bool:
        """Whether this backend runs there."""
        ...

    def attend(
        self,
        q_BTHK: Tensor,
        k_BSGK: Tensor,
        v_BSGK: Tensor,
        *,
        mask_BTS: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Attention of T queries over S keys: [B, T, H, K].

        `mask_BTS` is True where a query sees a key; its batch axis may be 1. `causal` needs
        T == S and no mask. Every query must see at least one key.
        """
        ...


PREFERENCE = ("sdpa", "reference")


def _load(name: str) -> AttentionBackend:
    # Lazy but plain: torch.compile follows these imports, and neither caches nor `import_module`.
    if name == "sdpa":
        from loopcoder.kernels import sdpa

        return sdpa.backend()
    if name == "reference":
        from loopcoder.kernels import reference

        return reference.backend()
    raise ValueError(f"no attention backend is called {name!r}; known: {', '.join(PREFERENCE)}")


def attention_backend(
    device: torch.device, dtype: torch.dtype, name: str | None = None
) -> AttentionBackend:
    """The first backend of `PREFERENCE` that runs on `device` with `dtype`, or the one named."""
    for candidate in (name,) if name else PREFERENCE:
        backend = _load(candidate)
        if backend.supports(device, dtype):
            return backend
    raise ValueError(f"no attention backend for {dtype} on {device}; asked for {name or 'any'}")
