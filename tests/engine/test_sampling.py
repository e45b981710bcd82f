"""Each sampling rule on distributions small enough to check by hand."""

import pytest
import torch

from loopcoder import SamplingParams
from loopcoder.engine.sampling import new_generator, sample
from loopcoder.errors import RequestError

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def _seen(params: SamplingParams, draws: int = 400) -> set[int]:
    generator = new_generator(params)
    return {sample(LOGITS, params, generator) for _ in range(draws)}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SamplingParams(seed=0), {0, 1, 2, 3}),
        (SamplingParams(seed=0, temperature=0.0), {0}),
        (SamplingParams(seed=0, top_k=2), {0, 1}),
        (SamplingParams(seed=0, top_p=0.5), {0}),
        (SamplingParams(seed=0, top_p=0.51), {0, 1}),
        (SamplingParams(seed=0, top_p=0.9), {0, 1, 2}),
        (SamplingParams(seed=0, min_p=0.2), {0, 1, 2}),
        (SamplingParams(seed=0, min_p=1.0), {0}),
        (SamplingParams(seed=0, top_k=3, top_p=0.8), {0, 1}),
    ],
)
def test_only_allowed_tokens_are_drawn(params: SamplingParams, expected: set[int]) -> None:
    assert _seen(params) == expected


def test_frequencies_follow_the_distribution() -> None:
    params = SamplingParams(seed=1)
    generator = new_generator(params)
    draws = torch.tensor([sample(LOGITS, params, generator) for _ in range(4000)])
    shares = torch.bincount(draws, minlength=4) / len(draws)
    torch.testing.assert_close(shares, LOGITS.exp(), atol=0.03, rtol=0)


def test_seed_repeats_and_no_seed_does_not() -> None:
    def draw(seed: int | None) -> list[int]:
        params = SamplingParams(seed=seed)
        generator = new_generator(params)
        return [sample(torch.zeros(1000), params, generator) for _ in range(20)]

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(None) != draw(None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("min_p", 2.0),
        ("loops", 0),
        ("stop", ("",)),
    ],
)
def test_bad_values_name_the_argument(field: str, value: object) -> None:
    with pytest.raises(RequestError, match=field):
        SamplingParams(**{field: value})
