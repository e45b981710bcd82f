"""Each sampling rule against distributions known exactly, and rows against each other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from loopcoder import SamplingParams
from loopcoder.engine.sampling import sample_batch
from loopcoder.engine.sampling_state import SamplingState, check_vocabulary
from loopcoder.errors import RequestError

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
GREEDY = SamplingParams(temperature=0.0)
NAN, INF = float("nan"), float("inf")


def _draws(logits_V: torch.Tensor, params: SamplingParams, count: int = 400) -> torch.Tensor:
    """Tokens of `count` rows at once, each of its own stream."""
    states = [SamplingState(params, index=i) for i in range(count)]
    choices = sample_batch(logits_V.expand(count, -1), states)
    return torch.tensor([-1 if c.token_id is None else c.token_id for c in choices])


def _tokens(logits_BV: torch.Tensor, states: list[SamplingState]) -> list[int | None]:
    return [choice.token_id for choice in sample_batch(logits_BV, states)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {0, 1, 2, 3}),
        ({"temperature": 0.0}, {0}),
        ({"temperature": 1e-6}, {0}),
        ({"temperature": 1e-4}, {0}),
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 4}, {0, 1, 2, 3}),
        ({"top_k": 99}, {0, 1, 2, 3}),
        ({"top_k": -1}, {0, 1, 2, 3}),
        ({"top_p": 1e-9}, {0}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.8}, {0, 1}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"top_p": 0.99}, {0, 1, 2, 3}),
        ({"min_p": 0.2}, {0, 1, 2}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "top_p": 0.8}, {0, 1}),  # 0.8 of the mass of three
        ({"min_p": 0.2, "top_p": 0.84}, {0, 1}),  # min-p first: 0.8 / 0.95 holds 0.84
        ({"logit_bias": {3: 100}}, {3}),
        ({"logit_bias": {0: -100}}, {1, 2, 3}),
    ],
)
def test_only_allowed_tokens_are_drawn(fields: dict[str, object], expected: set[int]) -> None:
    assert set(_draws(LOGITS, SamplingParams(seed=0, **fields)).tolist()) == expected


@pytest.mark.parametrize("shape", ["alone", "many", "blocks"])
def test_frequencies_follow_the_distribution(shape: str) -> None:
    """20,000 draws, chi-squared; the seed is fixed, so the outcome is too."""
    generator = torch.Generator().manual_seed(0)
    width, fields = {
        "alone": (5, {}),
        "many": (300, {"top_p": 0.97, "temperature": 2.0}),
        "blocks": (700, {"min_p": 0.05}),
    }[shape]
    logits = torch.randn(width, generator=generator)
    params = SamplingParams(seed=1, **fields)
    counts = torch.bincount(_draws(logits, params, 20000), minlength=width).double()
    p = _expected(logits, params)
    assert not counts[p == 0].any()
    assert chisquare(counts[p > 0], 20000 * p[p > 0]).pvalue > 1e-3


def _expected(logits_V: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The rules once more, by a plain sort in float64: the distribution that is drawn from."""
    p = (logits_V.double() / params.temperature).softmax(-1)
    p[p < params.min_p * p.max()] = 0
    order = p.sort(descending=True, stable=True).indices
    if params.top_k > 0:
        p[order[params.top_k :]] = 0
    p = p / p.sum()
    before = p[order].cumsum(0) - p[order]
    p[order[before >= params.top_p - 1e-6]] = 0
    return p / p.sum()


@settings(max_examples=60, deadline=None)
@given(
    width=st.sampled_from([3, 64, 200, 1000, 16384]),
    top_k=st.sampled_from([0, 1, 5, 63, 64, 65, 900]),
    top_p=st.sampled_from([0.01, 0.3, 0.9, 0.9999, 1.0]),
    min_p=st.sampled_from([0.0, 1e-4, 0.3]),
    temperature=st.sampled_from([0.05, 0.7, 1.0, 5.0]),
    bf16=st.booleans(),  # many equal logits
    seed=st.integers(0, 2**31),
)
def test_the_token_is_where_the_random_number_falls(
    width: int, top_k: int, top_p: float, min_p: float, temperature: float, bf16: bool, seed: int
) -> None:
    """Few candidates, or the whole vocabulary in buckets: the same distribution as by sorting.

    A token is right if the number lies in its share of the sum, in order of ids or of likelihood,
    to 1e-5: probabilities are float32 here and float64 in the reference.
    """
    logits = 3 * torch.randn(width, generator=torch.Generator().manual_seed(seed))
    logits = logits.bfloat16() if bf16 else logits
    params = SamplingParams(
        top_k=top_k, top_p=top_p, min_p=min_p, temperature=temperature, seed=seed
    )
    u = SamplingState(params).uniform()
    (token,) = _tokens(logits[None], [SamplingState(params)])
    p = _expected(logits, params)
    order = p.sort(descending=True, stable=True).indices
    shares = []
    for ids in (torch.arange(width), order):
        end = p[ids].cumsum(0)
        at = int((ids == token).nonzero())
        shares.append(float(end[at] - p[token]) - 1e-5 <= u <= float(end[at]) + 1e-5)
    assert p[token] > 0
    assert any(shares)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_support_and_probabilities_are_those_of_transformers(bf16: bool) -> None:
    """Its min-p comes last and ours, as vLLM's, first; so it is compared by itself."""
    generator = torch.Generator().manual_seed(3)
    seen = torch.tensor([[1, 2, 3, 4, 5, 5]])
    for fields, warpers in [
        ({"temperature": 0.7}, [TemperatureLogitsWarper(0.7)]),
        ({"top_k": 5}, [TopKLogitsWarper(5)]),
        ({"top_p": 0.6}, [TopPLogitsWarper(0.6)]),
        ({"min_p": 0.1}, [MinPLogitsWarper(0.1)]),
        (
            {"temperature": 1.5, "top_k": 9, "top_p": 0.8},
            [TemperatureLogitsWarper(1.5), TopKLogitsWarper(9), TopPLogitsWarper(0.8)],
        ),
        ({"repetition_penalty": 1.8}, [RepetitionPenaltyLogitsProcessor(1.8)]),
    ]:
        logits = torch.randperm(24, generator=generator).float() / 6  # all different
        logits = logits.bfloat16().float() if bf16 else logits
        expected = LogitsProcessorList(warpers)(seen, logits[None])[0].softmax(-1)
        params = SamplingParams(seed=7, **fields)
        states = [
            SamplingState(params, index=i, prompt_token_ids=[1, 2, 3], generated=[4, 5, 5])
            for i in range(20000)
        ]
        tokens = torch.tensor(_tokens(logits.expand(len(states), -1), states))
        counts = torch.bincount(tokens, minlength=24).double()
        assert not counts[expected == 0].any(), fields
        kept = expected > 0
        wanted = expected[kept].double()
        assert chisquare(counts[kept], len(states) * wanted / wanted.sum()).pvalue > 1e-3, fields


def test_penalties_and_bias_by_hand() -> None:
    """Bias, then repetition (prompt and output), frequency and presence (output only)."""
    params = SamplingParams(
        temperature=0.0,
        repetition_penalty=2.0,
        frequency_penalty=0.5,
        presence_penalty=0.25,
        logit_bias={0: 1.0, 6: -1.0},
        logprobs=0,
    )
    state = SamplingState(params, prompt_token_ids=[1, 2], generated=[2, 3, 3])
    scores = {0: 4 + 1, 1: 4 / 2, 2: -4 * 2 - 0.75, 3: 8 / 2 - 1.25, 4: 4, 5: 4.5, 6: 4 - 1}
    logits = torch.tensor([4.0, 4.0, -4.0, 8.0, 4.0, 4.5, 4.0])
    raw = logits.log_softmax(-1)
    order = sorted(scores, key=lambda token: -scores[token])
    assert order == [0, 5, 4, 6, 3, 1, 2]
    for token in order:  # the best is taken away each time, so that the next one shows
        untouched = logits.clone()
        (choice,) = sample_batch(
            logits[None], [SamplingState(params, prompt_token_ids=[1, 2], generated=[2, 3, 3])]
        )
        assert choice.token_id == token
        assert torch.equal(logits, untouched)
        logits[token] = -INF
    assert sample_batch(torch.tensor([[4.0, 4, -4, 8, 4, 4.5, 4]]), [state])[0].logprobs == {
        0: (pytest.approx(float(raw[0]), abs=1e-6), 3, None)
    }


def test_counts_grow_with_the_text() -> None:
    state = SamplingState(SamplingParams(temperature=0.0, frequency_penalty=1.0))
    logits = torch.tensor([[3.0, 2.4, 0.9]])
    assert [_tokens(logits, [state])[0] for _ in range(6)] == [0, 1, 0, 1, 0, 2]


def test_many_different_tokens_are_counted() -> None:
    prompt = list(range(500))
    state = SamplingState(
        SamplingParams(temperature=0.0, repetition_penalty=3.0), prompt_token_ids=prompt
    )
    logits = torch.full((1, 600), 2.0)
    assert [_tokens(logits, [state])[0] for _ in range(3)] == [500, 501, 502]


def test_end_tokens_wait_for_min_tokens() -> None:
    params = SamplingParams(temperature=0.0, min_tokens=2, stop_token_ids=[1])
    state = SamplingState(params, end_token_ids={0})
    logits = torch.tensor([[9.0, 8.0, 7.0]])
    assert [_tokens(logits, [state])[0] for _ in range(3)] == [2, 2, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_lowest_of_equal_logits_wins(dtype: torch.dtype) -> None:
    logits = torch.zeros(3, 1000, dtype=dtype)
    logits[1, [400, 17, 999]] = 2.0
    logits[2] = -INF
    logits[2, [5, 6]] = -1e4
    for params in (GREEDY, SamplingParams(top_k=1, seed=3), SamplingParams(top_p=1e-9, seed=3)):
        assert _tokens(logits, [SamplingState(params) for _ in range(3)]) == [0, 17, 5]


def test_equal_logits_at_the_limit_of_top_k_and_top_p_go_in_order_of_ids() -> None:
    """Whether the limit lies among the few candidates, or in the buckets behind them."""
    logits = torch.zeros(640)
    for k in (3, 100):
        for params in (SamplingParams(top_k=k, seed=0), SamplingParams(top_p=k / 640, seed=0)):
            assert set(_draws(logits, params, 3000).tolist()) == set(range(k))


EVERY_KIND = [
    GREEDY,
    SamplingParams(seed=1),
    SamplingParams(seed=2, top_k=7),
    SamplingParams(seed=3, top_p=0.9, temperature=0.8),
    SamplingParams(seed=4, min_p=0.1),
    SamplingParams(seed=5, repetition_penalty=1.3, frequency_penalty=0.3),
    SamplingParams(seed=6, top_p=0.999, temperature=5.0),
    SamplingParams(seed=7, top_k=200, logprobs=3),
]


@pytest.mark.parametrize("width", [70, 4096, 300_000])
def test_a_row_does_not_depend_on_the_others(width: int) -> None:
    logits = 4 * torch.randn(8, width, generator=torch.Generator().manual_seed(1))
    together = [SamplingState(params) for params in EVERY_KIND]
    alone = [SamplingState(params) for params in EVERY_KIND]
    for _ in range(4):
        expected = [sample_batch(logits[i : i + 1], [alone[i]])[0] for i in range(8)]
        assert sample_batch(logits, together) == expected
    backwards = [SamplingState(params) for params in reversed(EVERY_KIND)]
    again = [SamplingState(params) for params in EVERY_KIND]
    assert _tokens(logits.flip(0), backwards)[::-1] == _tokens(logits, again)


@pytest.mark.parametrize("bad", ["nan", "inf", "empty"])
def test_a_row_without_a_distribution_fails_alone(bad: str) -> None:
    logits = torch.randn(8, 500, generator=torch.Generator().manual_seed(2))
    for row in range(8):
        broken = logits.clone()
        if bad == "empty":
            broken[row] = -INF
        else:
            broken[row, 77] = {"nan": NAN, "inf": INF}[bad]
        expected = sample_batch(logits, [SamplingState(params) for params in EVERY_KIND])
        states = [SamplingState(params) for params in EVERY_KIND]
        got = sample_batch(broken, states)
        assert got[row] == (None, None)
        assert states[row].generated == 0
        assert got[:row] + got[row + 1 :] == expected[:row] + expected[row + 1 :]


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.full((1000,), -INF)
    logits[[3, 500, 999]] = torch.tensor([1.0, 2.0, -80.0])
    for params in EVERY_KIND:
        assert set(_draws(logits, params, 500).tolist()) <= {3, 500, 999}


@pytest.mark.parametrize("scale", [1e-30, 1e4, 3e38])
def test_extreme_logits_and_temperatures(scale: float) -> None:
    logits = torch.tensor([-1.0, 1.0, 0.5, -0.5]) * scale
    for temperature in (1e-5, 1e-2, 1.0, 1e30):
        drawn = _draws(logits, SamplingParams(seed=0, temperature=temperature), 50)
        assert (drawn >= 0).all()
        if scale / temperature > 100:
            assert set(drawn.tolist()) == {1}


def test_seed_repeats_and_no_seed_does_not() -> None:
    def draw(seed: int | None, index: int = 0) -> list[int | None]:
        state = SamplingState(SamplingParams(seed=seed), index=index)
        return [_tokens(torch.zeros(1, 1000), [state])[0] for _ in range(20)]

    assert draw(5) == draw(5)
    streams = [draw(5), draw(6), draw(5, 1), draw(-5), draw(5 + 2**32), draw(None), draw(None)]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_the_random_numbers_of_a_seed_are_fixed_for_good() -> None:
    """A text can be made again with a later version: numpy's PCG64, 53 bits a token."""
    state = SamplingState(SamplingParams(seed=1234))
    assert [state.uniform() for _ in range(3)] == [
        0.5293458940996787,
        0.2331172694518996,
        0.7607005642504421,
    ]


@pytest.mark.parametrize("seed", [9, None])
def test_a_state_made_again_goes_on_where_it_was(seed: int | None) -> None:
    logits = torch.randn(1, 100, generator=torch.Generator().manual_seed(0))
    fields = {"frequency_penalty": 0.4, "repetition_penalty": 1.2, "min_tokens": 9, "top_k": 50}
    state = SamplingState(
        SamplingParams(seed=seed, **fields), index=2, prompt_token_ids=[4, 5], end_token_ids=[0]
    )
    tokens = [_tokens(logits, [state])[0] for _ in range(20)]
    for done in (0, 1, 7, 15):
        again = SamplingState(
            SamplingParams(seed=state.seed, **fields),
            index=2,
            prompt_token_ids=[4, 5],
            generated=tokens[:done],
            end_token_ids=[0],
        )
        assert [_tokens(logits, [again])[0] for _ in range(20 - done)] == tokens[done:]


def test_token_ids_outside_the_vocabulary_are_named() -> None:
    check_vocabulary(SamplingParams(logit_bias={9: 1}, stop_token_ids=[9]), 10)
    for fields in ({"logit_bias": {10: 1}}, {"stop_token_ids": [10]}):
        with pytest.raises(RequestError, match=f"{next(iter(fields))}.*10"):
            check_vocabulary(SamplingParams(**fields), 10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("width", [70, 76800])
def test_a_gpu_chooses_the_same_tokens(width: int) -> None:
    """The numbers are the processor's; sums of float32 differ, so that 1 in 200 may fall beside."""
    logits = 4 * torch.randn(8, width, generator=torch.Generator().manual_seed(1))
    here = [SamplingState(params) for params in EVERY_KIND]
    there = [SamplingState(params) for params in EVERY_KIND]
    there_too = logits.cuda()
    pairs = [(_tokens(logits, here), _tokens(there_too, there)) for _ in range(25)]
    different = sum(a != b for one, two in pairs for a, b in zip(one, two, strict=True))
    assert different <= 1
    there_too[3, 5] = NAN
    assert _tokens(there_too, there)[3] is None
