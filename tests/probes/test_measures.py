"""The measures as functions: answers that are known without them."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loopcoder.probes.measures import (
    effective_rank,
    offset_cost,
    rank_of,
    step_size,
    update_angle,
)

EXACT = 1e-12  # float64, a few roundings
RANK = 1e-5  # a singular value is a root: noise of 1e-15 in its square is 3e-8 in it

seeds = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def orthonormal(seed: int, rows: int, columns: int) -> Tensor:
    return torch.linalg.qr(random(seed, rows, columns)).Q


def distribution(seed: int, *shape: int) -> Tensor:
    return (3 * random(seed, *shape)).softmax(-1)


def test_identical_states_are_no_step() -> None:
    x = random(0, 3, 7, 5)
    assert step_size(x, x).abs().max() == 0


def test_step_size_is_the_length_of_the_difference() -> None:
    x = random(0, 3, 7, 5)
    moved = x + torch.tensor([0.0, 3.0, 0.0, -4.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(
        step_size(moved, x), torch.full((3, 7), 5.0).double(), rtol=0, atol=EXACT
    )


@settings(deadline=None)
@given(seed=seeds, size=st.floats(1e-3, 1e3), width=st.integers(1, 9))
def test_a_constant_sequence_costs_no_offset(seed: int, size: float, width: int) -> None:
    x = (size * random(seed, 2, 1, width)).expand(2, 11, width)
    found = offset_cost(x)
    assert found.shape == (2, 10)
    assert found.abs().max() == 0


def test_offset_cost_is_the_way_from_the_token_before() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [0.0, 4.0]])
    assert offset_cost(x).tolist() == [5.0, 0.0, 3.0]


@settings(deadline=None)
@given(
    seed=seeds,
    theta=st.floats(0, math.pi),
    width=st.integers(2, 40),
    longer=st.floats(1e-3, 1e3),
)
def test_a_rotation_gives_the_cosine_of_its_angle(
    seed: int, theta: float, width: int, longer: float
) -> None:
    """A second step that is the first turned by theta, in any plane, of any length."""
    first, across = orthonormal(seed, width, 2).T
    start = random(seed + 1, 5, width)
    turned = longer * (math.cos(theta) * first + math.sin(theta) * across)
    found = update_angle(start + first + turned, start + first, start)
    tolerance = 1e-13 * (1 + 1 / longer)  # a short step is a difference of long vectors
    expected = torch.full((5,), math.cos(theta), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=100 * tolerance)


def test_no_step_has_no_angle() -> None:
    x, y = random(0, 4, 6), random(1, 4, 6)
    assert update_angle(y, y, x).tolist() == [0.0] * 4
    assert update_angle(y, x, x).tolist() == [0.0] * 4


@settings(deadline=None)
@given(data=st.data(), seed=seeds, wide=st.booleans(), size=st.floats(1e-6, 1e6))
def test_equal_singular_values_count_the_directions(
    data: st.DataObject, seed: int, wide: bool, size: float
) -> None:
    k = data.draw(st.integers(1, 12))
    S, D = data.draw(st.integers(k, 30)), data.draw(st.integers(31, 60))
    x = size * orthonormal(seed, S, k) @ orthonormal(seed + 1, D, k).T
    assert effective_rank(x if wide else x.T, "as_is") == pytest.approx(k, abs=RANK)


@pytest.mark.parametrize(("S", "D"), [(12, 40), (48, 16), (12, 12)])
@pytest.mark.parametrize("k", [1, 3, 12])
def test_rows_spread_evenly_over_k_axes_have_rank_k(k: int, S: int, D: int) -> None:
    """Whatever their lengths, as each row is divided by its root mean square."""
    axis = orthonormal(0, D, k).T
    x = axis[torch.arange(S) % k] * random(1, S, 1).exp()
    assert effective_rank(x) == pytest.approx(k, abs=RANK)
    if k > 1:
        assert effective_rank(x, "as_is") < k - 0.01


@pytest.mark.parametrize("shape", [(20, 9), (9, 20), (15, 15)])
@pytest.mark.parametrize("rows", ["rms", "as_is"])
def test_effective_rank_is_the_entropy_of_the_singular_values(
    shape: tuple[int, int], rows: str
) -> None:
    x = random(0, 3, *shape) * random(1, shape[1]).exp()
    matrix = x.numpy()
    if rows == "rms":
        matrix = matrix / np.sqrt((matrix**2).mean(-1, keepdims=True))
    singular = np.linalg.svd(matrix, compute_uv=False)
    expected = torch.from_numpy(np.exp(scipy.stats.entropy(singular, axis=-1)))
    found = effective_rank(x, rows)  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@settings(deadline=None)
@given(seed=seeds, size=st.floats(1e-8, 1e8))
def test_effective_rank_does_not_depend_on_scale(seed: int, size: float) -> None:
    x = random(seed, 8, 11)
    for rows in ("rms", "as_is"):
        assert effective_rank(size * x, rows) == pytest.approx(  # type: ignore[arg-type]
            float(effective_rank(x, rows)),  # type: ignore[arg-type]
            abs=1e-9,
        )


def test_nothing_has_no_rank() -> None:
    x = torch.stack([torch.zeros(6, 4), torch.eye(6, 4)])
    assert effective_rank(x).tolist() == pytest.approx([0.0, 4.0], abs=RANK)
    assert effective_rank(x, "as_is").tolist() == pytest.approx([0.0, 4.0], abs=RANK)


def test_effective_rank_of_half_precision_is_that_of_its_values() -> None:
    x = random(0, 10, 6).bfloat16()
    assert effective_rank(x).item() == effective_rank(x.double()).item()


@settings(deadline=None)
@given(seed=seeds, n=st.integers(1, 40))
def test_rank_is_the_place_in_the_sorted_row(seed: int, n: int) -> None:
    log_p = distribution(seed, 5, n).log()
    token = torch.from_numpy(np.random.default_rng(seed).integers(n, size=5))
    sorted_ids = log_p.argsort(-1, descending=True)
    expected = [
        ids.tolist().index(t) + 1 for ids, t in zip(sorted_ids, token.tolist(), strict=True)
    ]
    assert rank_of(log_p, token).tolist() == expected


def test_ties_share_the_better_rank() -> None:
    log_p = torch.tensor([0.1, 0.3, 0.3, 0.2, 0.1]).log()
    ranks = [rank_of(log_p, torch.tensor(token)).item() for token in range(5)]
    assert ranks == [4, 1, 1, 3, 4]
