"""The lens in blocks, with each p made once, against the measures one at a time."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from loopcoder.probes import lens, measures
from loopcoder.probes.lens import read_lens

LOOPS, TOKENS, WIDTH, VOCABULARY = 3, 23, 16, 500


def _case() -> tuple[Callable[[Tensor], Tensor], list[Tensor], Tensor]:
    chance = torch.Generator().manual_seed(0)
    weight = torch.randn(VOCABULARY, WIDTH, generator=chance, dtype=torch.float64)
    h = [torch.randn(TOKENS, WIDTH, generator=chance, dtype=torch.float64) for _ in range(LOOPS)]
    token = torch.randint(VOCABULARY, (TOKENS,), generator=chance)
    return (lambda x: x @ weight.T), h, token


@pytest.mark.parametrize("from_previous", [False, True])
@pytest.mark.parametrize("positions", [1, 7, TOKENS])
def test_equals_the_measures(
    from_previous: bool, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the block; tolerance 1e-12 in float64."""
    monkeypatch.setattr(lens, "_VALUES", positions * VOCABULARY)
    head, h, token = _case()
    found = read_lens(head, h, token, from_previous=from_previous)
    log_p = [head(x).log_softmax(-1)[:-1] for x in h]
    for r, each in enumerate(log_p):
        torch.testing.assert_close(found.entropy_RT[r], measures.entropy(each), rtol=0, atol=1e-12)
        assert found.rank_RT[r].tolist() == measures.rank_of(each, token[1:]).tolist()
        nats = -each.gather(-1, token[1:, None])[:, 0]
        torch.testing.assert_close(found.nats_RT[r], nats, rtol=0, atol=1e-12)
    for r in range(1, LOOPS):
        p, q = (log_p[r - 1], log_p[r]) if from_previous else (log_p[r], log_p[r - 1])
        torch.testing.assert_close(found.shift_RT[r - 1], measures.kl(p, q), rtol=0, atol=1e-12)


def test_one_loop_has_no_shift() -> None:
    head, h, token = _case()
    assert read_lens(head, h[:1], token).shift_RT.shape == (0, TOKENS - 1)
