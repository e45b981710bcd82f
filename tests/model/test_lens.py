"""Entropy and divergence of predictions: answers that are known without them."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loopcoder.model.lens import entropy, kl, log_probabilities

EXACT = 1e-12  # float64, a few roundings


def distribution(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(3 * np.random.default_rng(seed).standard_normal(shape)).softmax(-1)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 50))
def test_kl_is_scipys(seed: int, n: int) -> None:
    p, q = distribution(seed, 4, n), distribution(seed + 1, 4, n)
    expected = torch.from_numpy(np.atleast_1d(scipy.stats.entropy(p.numpy(), q.numpy(), axis=-1)))
    torch.testing.assert_close(kl(p.log(), q.log()), expected, rtol=0, atol=EXACT)


def test_kl_takes_nothing_for_what_has_no_probability() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.25, 0.25, 0.5]).double()
    assert kl(p.log(), q.log()).item() == pytest.approx(math.log(2), abs=EXACT)
    never = torch.tensor([0.5, 0.0, 0.5]).double()
    assert kl(p.log(), never.log()).item() == math.inf
    assert kl(p.log(), p.log()).item() == 0


def test_kl_leaves_its_arguments_as_they_are() -> None:
    log_p, log_q = (distribution(seed, 30).log() for seed in (0, 1))
    before = log_p.clone(), log_q.clone()
    kl(log_p, log_q)
    assert torch.equal(log_p, before[0])
    assert torch.equal(log_q, before[1])


@pytest.mark.parametrize("n", [1, 2, 65, 76800])
def test_uniform_has_the_entropy_of_its_number(n: int) -> None:
    log_p = torch.full((n,), -math.log(n), dtype=torch.float64)
    assert entropy(log_p).item() == pytest.approx(math.log(n), abs=1e-9)


def test_entropy_is_scipys_and_certainty_has_none() -> None:
    p = distribution(0, 6, 30)
    expected = torch.from_numpy(scipy.stats.entropy(p.numpy(), axis=-1))
    torch.testing.assert_close(entropy(p.log()), expected, rtol=0, atol=EXACT)
    assert entropy(torch.tensor([0.0, 1.0, 0.0]).log()).item() == 0


def test_probabilities_at_hand_spare_making_them_and_change_nothing() -> None:
    log_p, log_q = (distribution(seed, 6, 30).log() for seed in (0, 1))
    assert torch.equal(entropy(log_p, log_p.exp()), entropy(log_p))
    assert torch.equal(kl(log_p, log_q, log_p.exp()), kl(log_p, log_q))


@pytest.mark.parametrize(
    ("dtype", "precise"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_log_probabilities_are_float32_or_better(dtype: torch.dtype, precise: torch.dtype) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 300))).to(dtype)
    log_p = log_probabilities(logits)
    assert log_p.dtype == precise
    # Made from bfloat16 logits, not rounded to it: float32 carries a sum of 300 to 1e-5.
    torch.testing.assert_close(log_p.double(), logits.double().log_softmax(-1), rtol=0, atol=1e-5)
