"""Every attention backend against the reference, and the window in blocks against its slow twin."""

import pytest
import torch
from torch import Tensor

from loopcoder.kernels.attention import AttentionBackend, attention_backend
from loopcoder.kernels.masks import causal_mask
from loopcoder.kernels.window import dense_window_attention, window_attention

CPU = torch.device("cpu")


def _qkv(T: int, S: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(T * 1000 + S)
    q = torch.randn(2, T, 4, 8, generator=generator, dtype=dtype)
    k, v = (torch.randn(2, S, 2, 8, generator=generator, dtype=dtype) for _ in range(2))
    return q, k, v


def _backend(name: str, dtype: torch.dtype) -> AttentionBackend:
    return attention_backend(CPU, dtype, name)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", ["causal", "masked", "all"])
def test_sdpa_equals_reference(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    q, k, v = _qkv(17, 17, dtype)
    document = torch.tensor([[0] * 9 + [1] * 8, [-1] * 3 + [0] * 14])
    mask = causal_mask(document, 17) if kind == "masked" else None
    results = [
        _backend(name, dtype).attend(q, k, v, mask_BTS=mask, causal=kind == "causal")
        for name in ("sdpa", "reference")
    ]
    torch.testing.assert_close(*results, rtol=0, atol=tolerance)


def test_reference_by_hand() -> None:
    """Two equal scores: the mean of two values. One visible key: its value."""
    q = torch.zeros(1, 2, 1, 2)
    k = torch.randn(1, 2, 1, 2)
    v = torch.tensor([[[[1.0, 0.0]], [[3.0, 4.0]]]])
    y = _backend("reference", torch.float32).attend(q, k, v, causal=True)
    assert y.squeeze().tolist() == [[1.0, 0.0], [2.0, 2.0]]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("T", "S", "window"),
    [(300, 300, 65), (300, 364, 65), (200, 200, 5), (130, 100, 1), (400, 450, 101), (7, 7, 65)],
)
def test_window_in_blocks_equals_dense(T: int, S: int, window: int, packed: bool) -> None:
    """Values and gradients, at windows around and across the block borders."""
    T = min(T, S)
    tensors = [x.requires_grad_() for x in _qkv(T, S, torch.float64)]
    document = (torch.arange(S) // 37).expand(2, S) if packed else None
    backend = _backend("sdpa", torch.float64)
    blocks, dense = (
        attend(backend, *tensors, window, document)
        for attend in (window_attention, dense_window_attention)
    )
    torch.testing.assert_close(blocks, dense, rtol=0, atol=1e-12)
    for fast, slow in zip(
        torch.autograd.grad(blocks.square().sum(), tensors),
        torch.autograd.grad(dense.square().sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-11)


def test_window_counts_the_query_itself() -> None:
    """A window of 3 keys: moving the fourth key back changes nothing, moving the third does."""
    q, k, v = _qkv(1, 10, torch.float64)
    backend = _backend("sdpa", torch.float64)
    before = window_attention(backend, q, k, v, 3)
    for column, changes in ((6, False), (7, True)):
        moved = v.clone()
        moved[:, column] += 1
        after = window_attention(backend, q, k, moved, 3)
        assert bool((after - before).abs().max() > 1e-6) is changes


def test_unknown_dtype_has_no_backend() -> None:
    with pytest.raises(ValueError, match=r"no attention backend for torch.int8"):
        attention_backend(CPU, torch.int8)
