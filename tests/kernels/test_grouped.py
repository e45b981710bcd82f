"""Grouped weights: what quantising loses, the stored form, and what is refused."""

import pytest
import torch

from loopcoder.kernels.grouped import (
    GroupedWeight,
    QuantizationError,
    concatenate,
    fitting_group,
    quantize,
)


def _weight(M: int, K: int, seed: int = 0) -> torch.Tensor:
    return 0.02 * torch.randn(M, K, generator=torch.Generator().manual_seed(seed))


def _relative_error(weight_MK: torch.Tensor, stored: GroupedWeight) -> float:
    return ((stored.dequantize() - weight_MK).norm() / weight_MK.norm()).item()


# Of normal weights. 8 bits: the largest of a group of 64 is about 2.6 deviations, so a step is
# 2.6 / 127 of one and rounding loses 1 / sqrt(12) of a step, 0.6 %. 4 bits: as measured.
@pytest.mark.parametrize(
    ("bits", "group", "bound"),
    [
        (8, 32, 0.0056),
        (8, 64, 0.0062),
        (8, 128, 0.0068),
        (4, 32, 0.088),
        (4, 64, 0.097),
        (4, 128, 0.103),
    ],
)
def test_normal_weights_lose_what_rounding_must(bits: int, group: int, bound: float) -> None:
    weight_MK = _weight(256, 1024)
    error = _relative_error(weight_MK, quantize(weight_MK, bits, group))
    assert bound / 2 < error < bound


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_no_weight_is_off_by_more_than_half_a_step_unless_clipped(
    bits: int, dtype: torch.dtype
) -> None:
    weight_MK = _weight(40, 96)
    stored = quantize(weight_MK, bits, 32, scale_dtype=dtype)
    step_MK = stored.scale.float().abs().repeat_interleave(32, dim=1)
    clipped_MK = stored.integers().abs() >= 2 ** (bits - 1) - 1
    off_MK = (stored.dequantize() - weight_MK).abs()
    assert (off_MK <= 0.5001 * step_MK)[~clipped_MK].all()
    # A scale rounded down to bfloat16, by 2^-9 at most, leaves 127 steps short by a quarter of one.
    assert bits == 4 or (off_MK <= 0.51 * step_MK).all()


def test_the_search_of_4_bit_scales_beats_the_largest_weight() -> None:
    weight_MK = _weight(64, 512)
    plain_MJ = weight_MK.unflatten(1, (-1, 64)).abs().amax(-1, keepdim=True) / 7
    plain = (weight_MK.unflatten(1, (-1, 64)) / plain_MJ).round().clamp(-8, 7) * plain_MJ
    plain_error = ((plain.flatten(1) - weight_MK).norm() / weight_MK.norm()).item()
    assert _relative_error(weight_MK, quantize(weight_MK, 4, 64)) < 0.9 * plain_error


def test_nibbles_hold_even_inputs_low_and_values_offset_by_8() -> None:
    values = torch.tensor([[8 - 8 + 3 | 15 << 4]], dtype=torch.uint8)
    stored = GroupedWeight(bits=4, group=2, values=values, scale=torch.tensor([[0.5]]))
    assert stored.integers().tolist() == [[-5, 7]]
    assert stored.dequantize().tolist() == [[-2.5, 3.5]]


@pytest.mark.parametrize("bits", [8, 4])
def test_integers_on_the_grid_survive_exactly(bits: int) -> None:
    top = 2 ** (bits - 1) - 1
    integer_MK = torch.randint(-top, top + 1, (33, 128), generator=torch.Generator().manual_seed(1))
    integer_MK[:, ::32] = top
    stored = quantize(integer_MK * 0.25, bits, 32)
    sign_MK = stored.scale.sign().long().repeat_interleave(32, dim=1)
    assert torch.equal(stored.integers().long() * sign_MK, integer_MK)
    assert torch.equal(stored.dequantize(), integer_MK * 0.25)


def test_blocks_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    weight_MK = _weight(50, 64)
    whole = quantize(weight_MK, 4, 32)
    monkeypatch.setattr("loopcoder.kernels.grouped._BLOCK_WEIGHTS", 7 * 64)
    pieces = quantize(weight_MK, 4, 32)
    assert torch.equal(whole.values, pieces.values)
    assert torch.equal(whole.scale, pieces.scale)
    parts = list(pieces.blocks())
    assert [part.shape[0] for part in parts] == [7] * 7 + [1]
    assert torch.equal(torch.cat([part.dequantize() for part in parts]), whole.dequantize())


@pytest.mark.parametrize("bits", [8, 4])
def test_concatenation_stacks_outputs(bits: int) -> None:
    weights = [_weight(M, 64, seed=M) for M in (3, 16, 5)]
    joined = concatenate([quantize(w, bits, 32) for w in weights])
    together = quantize(torch.cat(weights), bits, 32)
    assert torch.equal(joined.values, together.values)
    assert torch.equal(joined.scale, together.scale)
    assert torch.equal(joined.rows(3, 19).dequantize(), quantize(weights[1], bits, 32).dequantize())


def test_zeros_and_the_smallest_weights_stay_finite() -> None:
    weight_MK = torch.zeros(4, 64)
    weight_MK[1] = 1e-38
    weight_MK[2, 0] = -3e38
    for bits in (8, 4):
        back = quantize(weight_MK, bits, 32).dequantize()
        assert back.isfinite().all()
        assert (back[0] == 0).all()


def test_bytes_are_values_and_scales() -> None:
    assert quantize(_weight(8, 64), 8, 32).nbytes == 8 * 64 + 8 * 2 * 2
    assert quantize(_weight(8, 64), 4, 32).nbytes == 8 * 32 + 8 * 2 * 2


@pytest.mark.parametrize(
    ("inputs", "asked", "group"),
    [(5120, 128, 128), (27648, 64, 64), (48, 128, 16), (96, 64, 32), (8, 128, 8)],
)
def test_a_group_that_fits(inputs: int, asked: int, group: int) -> None:
    assert fitting_group(inputs, asked) == group


def test_what_is_refused_names_the_numbers() -> None:
    with pytest.raises(QuantizationError, match="100 inputs cannot be split into groups of 128"):
        fitting_group(100, 128)
    with pytest.raises(QuantizationError, match="groups of 48 do not divide 64 inputs"):
        quantize(_weight(4, 64), 8, 48)
    with pytest.raises(QuantizationError, match="bits is 5"):
        quantize(_weight(4, 64), 5, 32)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(QuantizationError, match="not finite"):
            quantize(torch.full((4, 64), bad), 4, 32)
    with pytest.raises(QuantizationError, match=r"\[4, 2\]"):
        GroupedWeight(
            bits=8, group=32, values=torch.zeros(4, 64, dtype=torch.int8), scale=torch.zeros(4, 3)
        )
    with pytest.raises(QuantizationError, match=r"torch.uint8 matrix"):
        GroupedWeight(
            bits=4, group=32, values=torch.zeros(4, 64, dtype=torch.int8), scale=torch.zeros(4, 4)
        )
    with pytest.raises(QuantizationError, match="same bits"):
        concatenate([quantize(_weight(4, 64), bits, 32) for bits in (8, 4)])
