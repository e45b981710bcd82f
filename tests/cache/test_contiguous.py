"""Any split of a text into chunks and single tokens equals the serial oracle without a cache."""

import pytest
import torch

from loopcoder.cache.contiguous import CacheShape, ContiguousCache
from loopcoder.model.config import ModelConfig
from loopcoder.model.layout import plain_layout
from loopcoder.model.plt import PLT

WINDOW = 5


def _model(loops: int, **fields: object) -> PLT:
    config = ModelConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        plt_num_loops=loops,
        plt_window_size=(WINDOW - 1, 0),
        plt_hidden_scale=0.5,
    ).with_(**fields)
    torch.manual_seed(loops)
    model = PLT(config).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def _cache(loops: int, batch: int) -> ContiguousCache:
    return ContiguousCache(
        CacheShape(
            layers=3,
            loops=loops,
            batch=batch,
            groups=2,
            head_dim=8,
            window=WINDOW,
            dtype=torch.float64,
            device=torch.device("cpu"),
        )
    )


def _advance(
    model: PLT, cache: ContiguousCache, token_BT: torch.Tensor, together: bool
) -> torch.Tensor:
    """States h of all loops: [R, B, T, D]."""
    layout = plain_layout(*token_BT.shape, token_BT.device, past=cache.length)
    E = model.model.embed(token_BT)
    with torch.no_grad():
        states = model.model.advance(E, layout, cache, cache.shape.loops, together=together)
    return torch.stack([state.h for state in states])


@pytest.mark.parametrize("chunks", [[27], [10] + [1] * 17, [1] * 27, [9, 9, 1, 1, 7], [3] * 9])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("loops", [1, 2, 3, 4])
@pytest.mark.parametrize("norm", [True, False])
def test_chunks_equal_serial(loops: int, together: bool, chunks: list[int], norm: bool) -> None:
    model = _model(loops, plt_normalize_per_loop=norm)
    token = torch.randint(50, (2, 27), generator=torch.Generator().manual_seed(3))
    whole = torch.stack(model(token).loop_states)
    cache = _cache(loops, 2)
    parts = [_advance(model, cache, part, together) for part in token.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=0, atol=1e-12)
    assert cache.length == 27


def test_select_reorders_repeats_and_drops() -> None:
    """Row i continues as the old row index[i] would have."""
    model = _model(3)
    token = torch.randint(50, (3, 12), generator=torch.Generator().manual_seed(4))
    cache = _cache(3, 3)
    _advance(model, cache, token, together=True)
    index = torch.tensor([2, 0, 2, 2])
    cache.select(index)
    following = torch.tensor([[7], [8], [9], [7]])
    after = _advance(model, cache, following, together=True)
    expected = model(torch.cat([token[index], following], dim=1)).loop_states
    torch.testing.assert_close(after[:, :, 0], torch.stack(expected)[:, :, -1], rtol=0, atol=1e-12)


def test_bytes_are_what_the_tensors_take() -> None:
    """Loop 1 grows with the length; a later loop is a constant W keys and values (SPEC 2)."""
    cache = _cache(3, 2)
    _advance(_model(3), cache, torch.zeros(2, 40, dtype=torch.long), together=True)
    per_column = 2 * 3 * 2 * 2 * 8 * 8  # k and v, layers, B, G, K, bytes
    assert cache.first_loop_bytes == 40 * per_column
    assert cache.ring_bytes == 2 * WINDOW * per_column


def test_failed_pass_leaves_the_length() -> None:
    """A chunk that is never committed does not count, and the next one is right."""
    model, cache = _model(2), _cache(2, 1)
    token = torch.randint(50, (1, 9), generator=torch.Generator().manual_seed(5))
    _advance(model, cache, token[:, :8], together=True)
    cache.open(1, None)
    after = _advance(model, cache, token[:, 8:], together=True)
    expected = torch.stack(model(token).loop_states)[:, :, -1:]
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-12)
