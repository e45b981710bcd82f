"""Log-probabilities against a plain log-softmax in float64."""

import pytest
import torch

from loopcoder import SamplingParams
from loopcoder.engine.logprobs import prompt_logprobs, row_logprobs
from loopcoder.engine.ranking import largest_holding, ranked
from loopcoder.engine.sampling import sample_batch
from loopcoder.engine.sampling_state import SamplingState
from loopcoder.engine.vocabulary import TokenTexts
from tests.small import byte_tokenizer

TOLERANCE = 2e-5  # torch's float32 log-softmax over 16,384 columns


def _logits(*shape: int, bf16: bool = False) -> torch.Tensor:
    logits = 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return logits.bfloat16() if bf16 else logits


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("width", [5, 300, 16384])
@pytest.mark.parametrize("count", [0, 1, 5, 20, -1])
def test_reports_are_those_of_a_sorted_log_softmax(width: int, count: int, bf16: bool) -> None:
    logits = _logits(3, width, bf16=bf16)
    tokens = [0, width - 1, int(logits[2].argmax())]
    reports = row_logprobs(logits, tokens, [count] * 3)
    for row, (token, report) in enumerate(zip(tokens, reports, strict=True)):
        expected = logits[row].double().log_softmax(-1)
        order = expected.sort(descending=True, stable=True).indices.tolist()
        best = order if count < 0 else order[:count]
        assert list(report) == [token, *(t for t in best if t != token)]
        for t, entry in report.items():
            assert entry.logprob == pytest.approx(float(expected[t]), abs=TOLERANCE)
            assert entry.rank == 1 + int((logits[row] > logits[row, t]).sum())


def test_rows_ask_for_different_numbers() -> None:
    logits = _logits(4, 100)
    states = [
        SamplingState(SamplingParams(seed=i, logprobs=count, temperature=0.5))
        for i, count in enumerate([None, 0, 3, -1])
    ]
    choices = sample_batch(logits, states)
    assert choices[0].logprobs is None
    expected = logits.double().log_softmax(-1)
    for row, sizes in ((1, {1}), (2, {3, 4}), (3, {100})):
        token, report = choices[row]
        assert token is not None
        assert report is not None
        assert len(report) in sizes
        # Of the logits as they are, not of those divided by the temperature.
        assert report[token].logprob == pytest.approx(float(expected[row, token]), abs=1e-5)


def test_a_flat_row_lists_the_lowest_ids() -> None:
    (report,) = row_logprobs(torch.zeros(1, 5000), [4000], [3])
    assert list(report) == [4000, 0, 1, 2]
    assert {entry.rank for entry in report.values()} == {1}


def test_impossible_tokens_have_minus_infinity() -> None:
    logits = torch.tensor([[0.0, float("-inf"), 0.0]])
    (report,) = row_logprobs(logits, [0], [3])
    assert report[1].logprob == float("-inf")
    assert report[1].rank == 3


def test_prompt_logprobs_in_blocks() -> None:
    weight = _logits(50, 8)
    h_TD = torch.randn(23, 8, generator=torch.Generator().manual_seed(1))
    tokens = list(range(23))
    widths = []

    def head(h: torch.Tensor) -> torch.Tensor:
        widths.append(len(h))
        return h @ weight.T

    reports = prompt_logprobs(head, h_TD, tokens, 2, block=10)
    assert widths == [10, 10, 3]
    assert len(reports) == 23
    whole = row_logprobs(h_TD @ weight.T, tokens, [2] * 23)
    for one, other in zip(reports, whole, strict=True):
        assert list(one) == list(other)
        for token, entry in one.items():
            assert entry.logprob == pytest.approx(other[token].logprob, abs=1e-5)
    assert prompt_logprobs(head, h_TD[:0], [], 2) == []


def test_tokens_are_decoded_one_by_one() -> None:
    tokenizer = byte_tokenizer()
    a, first_byte = tokenizer("aé")["input_ids"][:2]
    (report,) = row_logprobs(torch.zeros(1, 256), [a], [-1], TokenTexts(tokenizer))
    assert report[a].decoded_token == "a"
    assert report[first_byte].decoded_token == "\ufffd"


@pytest.mark.parametrize("width", [10, 64 * 40, 64 * 40 + 1])
@pytest.mark.parametrize("ties", [False, True])
def test_ranking_is_certain_as_far_as_it_says(width: int, ties: bool) -> None:
    x = _logits(6, width)
    x = (x * 2).round() if ties else x
    x[4, 3:] = float("-inf")
    order = x.sort(dim=-1, descending=True, stable=True)
    values, ids, known = ranked(x, 9)
    for row in range(6):
        certain = int(known[row])
        assert torch.equal(ids[row, :certain], order.indices[row, :certain])
        assert torch.equal(values[row], order.values[row, :9])
        assert ties or row == 4 or certain >= 8


@pytest.mark.parametrize("digits", [1, 3, 7])
def test_fewest_of_the_largest_by_weight(digits: int) -> None:
    """Against a stable sort; few digits make many equals."""
    p = _logits(8, 1000).softmax(-1)
    p = (p / p.amax(-1, keepdim=True) * 10**digits).round() / 10**digits
    order = p.sort(dim=-1, descending=True, stable=True).indices
    for weight in (p, torch.ones_like(p)):
        total = weight.double().sum(-1, keepdim=True)
        for share in (0.0, 0.2, 0.9, 0.9999, 2.0):
            need = (share * total - 1e-9).clamp(min=1e-300)  # one at least
            held = weight.double().gather(-1, order).cumsum(-1)
            wanted = torch.zeros_like(p, dtype=torch.bool)
            wanted.scatter_(1, order, held - weight.gather(-1, order) < need)
            got = largest_holding(p, weight, need)
            # Tokens without weight do not matter.
            assert torch.equal(got & (weight * p > 0), wanted & (weight * p > 0))
