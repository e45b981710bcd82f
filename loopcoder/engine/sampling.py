"""From logits to tokens, for all rows of a step at once.

The meanings and their order are vLLM's: grammar, bias and penalties, `min_tokens`, temperature,
min-p, top-k, top-p; log-probabilities are those of the untouched logits. What differs: of equal
logits the lowest token id goes first everywhere, so that `top_k` keeps exactly k tokens and 1 is
greedy; and a row's token depends on its own logits and stream alone, whatever else is in the batch.

In the suffixes B counts rows of a step, C their candidates (the most likely tokens).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from loopcoder.engine.logprobs import row_logprobs
from loopcoder.engine.ranking import largest_holding, ranked
from loopcoder.engine.sampling_state import SamplingState
from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.types import Logprob

_CANDIDATES = 64  # more than top-k and top-p leave in most cases
_BLOCK = 256
_CACHED = 2**18  # logits
# Probabilities are float32: a cumulative sum this near to top_p has reached it.
_ROUNDING = 1e-6


class Choice(NamedTuple):
    """One row's token; None where the logits hold no distribution (NaN, +inf or nothing left).

    `logprobs` has the token and the most likely ones if `params.logprobs` asks for them.
    """

    token_id: int | None
    logprobs: dict[int, Logprob] | None = None


def sample_batch(
    logits_BV: Tensor, states: Sequence[SamplingState], texts: TokenTexts | None = None
) -> list[Choice]:
    """Choose a token for each row and note it in the row's state.

    Logits are of any float type and on any device, and are left as they are. `texts` fills in
    `Logprob.decoded_token`. A row without a distribution draws nothing and changes no other row.
    """
    logits_BV = logits_BV.detach()
    tokens = _choose(_edited(logits_BV, states), states)
    for state, token in zip(states, tokens, strict=True):
        if token is not None:
            state.accept(token)
    asked = [
        row
        for row, (state, token) in enumerate(zip(states, tokens, strict=True))
        if state.params.logprobs is not None and token is not None
    ]
    choices = [Choice(token) for token in tokens]
    if asked:
        reports = row_logprobs(
            logits_BV if len(asked) == len(states) else logits_BV[asked],
            [tokens[row] or 0 for row in asked],
            [states[row].params.logprobs or 0 for row in asked],
            texts,
        )
        for row, report in zip(asked, reports, strict=True):
            choices[row] = Choice(tokens[row], report)
    return choices


def _edited(logits_BV: Tensor, states: Sequence[SamplingState]) -> Tensor:
    """The logits after all that edits them; a copy if there is anything to do."""
    held = [row for row, state in enumerate(states) if state.grammar is not None]
    tables = [state.edits.rows(row) for row, state in enumerate(states) if state.edits is not None]
    forbidden = [(row, token) for row, state in enumerate(states) for token in state.forbidden]
    if not held and not tables and not forbidden:
        return logits_BV
    logits_BV = logits_BV.to(torch.float32, copy=True)
    if held:
        allowed_BV = np.stack([states[row].allowed(logits_BV.shape[1]) for row in held])
        barred_BV = torch.from_numpy(~allowed_BV).to(logits_BV.device)
        logits_BV[held] = logits_BV[held].masked_fill_(barred_BV, float("-inf"))
    if tables:
        edit_5E = torch.from_numpy(np.concatenate(tables, axis=1)).to(logits_BV.device)
        place = edit_5E[:2].long().unbind()
        bias_E, factor_E, shift_E = edit_5E[2:].float()
        x_E = logits_BV[place] + bias_E
        logits_BV[place] = torch.where(x_E > 0, x_E / factor_E, x_E * factor_E) + shift_E
    if forbidden:
        row_E, token_E = torch.tensor(forbidden, device=logits_BV.device).T
        logits_BV[row_E, token_E] = float("-inf")
    return logits_BV


def _choose(scores_BV: Tensor, states: Sequence[SamplingState]) -> list[int | None]:
    greedy = [row for row, state in enumerate(states) if state.greedy]
    if len(greedy) == len(states):
        return _greedy(scores_BV)
    if not greedy:
        return _drawn(scores_BV, states)
    drawn = [row for row, state in enumerate(states) if not state.greedy]
    tokens: list[int | None] = [None] * len(states)
    for row, token in zip(greedy, _greedy(scores_BV[greedy]), strict=True):
        tokens[row] = token
    some = _drawn(scores_BV[drawn], [states[row] for row in drawn])
    for row, token in zip(drawn, some, strict=True):
        tokens[row] = token
    return tokens


def _greedy(scores_BV: Tensor) -> list[int | None]:
    if scores_BV.device.type == "cpu":
        # numpy's argmax uses the vector units; over bf16 the detour is 20 times torch's speed.
        scores = scores_BV.float().numpy()
        ids = scores.argmax(-1)
        finite = np.isfinite(scores[np.arange(len(ids)), ids])
        return [token if good else None for token, good in zip(ids.tolist(), finite, strict=True)]
    top_B, id_B = scores_BV.max(-1)
    return _read(id_B, top_B)


def _read(id_B: Tensor, top_B: Tensor) -> list[int | None]:
    """Token ids on the host, in one transfer; None where the largest logit is not a number."""
    tokens: list[int] = torch.where(top_B.isfinite(), id_B, -1).tolist()
    return [token if token >= 0 else None for token in tokens]


class _Settings(NamedTuple):
    """What the rows of a batch ask for, [B, 1] in float64, and each row's random number."""

    temperature: Tensor
    min_p: Tensor
    top_k: Tensor
    top_p: Tensor
    uniform: Tensor

    @classmethod
    def of(cls, states: Sequence[SamplingState], vocabulary: int, like: Tensor) -> "_Settings":
        """Gather them in one transfer. `top_k` off is the whole vocabulary, `top_p` off is 2."""
        rows = [
            (
                state.params.temperature,
                state.params.min_p,
                state.params.top_k if state.params.top_k > 0 else vocabulary,
                state.params.top_p if state.params.top_p < 1 else 2.0,
                state.uniform(),
            )
            for state in states
        ]
        table = torch.tensor(rows, dtype=torch.float64).to(like.device)
        return cls(*table.T[..., None])

    def take(self, rows: Tensor | list[int]) -> "_Settings":
        """The settings of some rows."""
        return _Settings(*(column[rows] for column in self))


def _drawn(scores_BV: Tensor, states: Sequence[SamplingState]) -> list[int | None]:
    if scores_BV.device.type != "cpu":
        return _draw(scores_BV, states)
    # Intermediate results that stay in the processor's cache are not fetched from memory anew.
    size = max(1, _CACHED // scores_BV.shape[-1])
    starts = range(0, len(states), size)
    return [t for at in starts for t in _draw(scores_BV[at : at + size], states[at : at + size])]


def _draw(scores_BV: Tensor, states: Sequence[SamplingState]) -> list[int | None]:
    x_BV = scores_BV.float()
    settings = _Settings.of(states, x_BV.shape[-1], x_BV)
    top_B1 = x_BV.amax(-1, keepdim=True)
    p_BV = (x_BV - top_B1).div_(settings.temperature.float()).softmax(-1)
    if any(state.params.min_p > 0 for state in states):
        p_BV *= p_BV >= p_BV.amax(-1, keepdim=True) * settings.min_p.float()
    cut = [row for row, s in enumerate(states) if s.params.top_k > 0 or s.params.top_p < 1]
    if len(cut) == len(states):
        id_B = _draw_cut(x_BV, p_BV, settings)
    else:
        id_B = _inverse_cdf(p_BV, settings.uniform)
        if cut:
            id_B[cut] = _draw_cut(x_BV[cut], p_BV[cut], settings.take(cut))
    return _read(id_B, top_B1[:, 0])


def _draw_cut(x_BV: Tensor, p_BV: Tensor, settings: _Settings) -> Tensor:
    """Draw from what top-k and top-p leave: [B].

    Few tokens hold most of the mass, so the most likely ones are tried first; only rows for which
    these do not reach look at the whole vocabulary.
    """
    mass_B1 = p_BV.sum(-1, keepdim=True, dtype=torch.float64)
    id_B, settled_B = _draw_from_few(x_BV, p_BV, mass_B1, settings)
    if not settled_B.all():
        rest = (~settled_B).nonzero()[:, 0]
        id_B[rest] = _draw_from_many(p_BV[rest], settings.take(rest))
    return id_B


def _draw_from_few(
    x_BV: Tensor, p_BV: Tensor, mass_B1: Tensor, settings: _Settings
) -> tuple[Tensor, Tensor]:
    """Tokens drawn among the most likely, and whether the others could not matter: [B]."""
    _, id_BC, known_B = ranked(x_BV, _CANDIDATES)
    known_B1 = known_B[:, None]
    place_C = torch.arange(id_BC.shape[1], device=x_BV.device)
    p_BC = p_BV.gather(-1, id_BC).double()
    # Complete: every token that top-k and min-p leave is among those known.
    complete_B1 = (settings.top_k <= known_B1) | (known_B1 >= x_BV.shape[1]) | ~(p_BC[:, -1:] > 0)
    p_BC = p_BC.masked_fill(place_C >= known_B1.minimum(settings.top_k), 0)
    cdf_BC = p_BC.cumsum(-1)
    enough_B1 = torch.where(complete_B1, cdf_BC[:, -1:], mass_B1) * (settings.top_p - _ROUNDING)
    # top-p takes a token while those before it hold less than its share; the first always stays.
    p_BC = torch.cat((p_BC[:, :1], p_BC[:, 1:].masked_fill(cdf_BC[:, :-1] >= enough_B1, 0)), 1)
    reached_B1 = (cdf_BC[:, -1:] >= enough_B1) & (known_B1 > 0)
    settled_B1 = complete_B1 | ((settings.top_k >= x_BV.shape[1]) & reached_B1)
    place_B1 = _locate(p_BC.cumsum(-1), settings.uniform)
    return id_BC.gather(-1, place_B1)[:, 0], settled_B1[:, 0]


def _draw_from_many(p_BV: Tensor, settings: _Settings) -> Tensor:
    """The same over the whole vocabulary: [B]."""
    if bool((settings.top_k < p_BV.shape[1]).any()):
        p_BV = p_BV * largest_holding(p_BV, torch.ones_like(p_BV), settings.top_k)
    if bool((settings.top_p < 1).any()):
        mass_B1 = p_BV.sum(-1, keepdim=True, dtype=torch.float64)
        p_BV = p_BV * largest_holding(p_BV, p_BV, mass_B1 * (settings.top_p - _ROUNDING))
    return _inverse_cdf(p_BV, settings.uniform)


def _inverse_cdf(p_BV: Tensor, uniform_B1: Tensor) -> Tensor:
    """The token in order of ids at which the cumulative sum passes the random number: [B].

    Sums over blocks find the block first: a float64 sum over 76,800 columns one by one takes ten
    times as long.
    """
    V = p_BV.shape[-1]
    p_BV = pad(p_BV, (0, -V % _BLOCK)) if V % _BLOCK else p_BV
    p_BNV = p_BV.unflatten(-1, (-1, _BLOCK))
    cdf_BN = p_BNV.sum(-1, dtype=torch.float64).cumsum(-1)
    block_B1 = _locate(cdf_BN, uniform_B1)
    before_B1 = pad(cdf_BN, (1, 0)).gather(-1, block_B1)
    rows = torch.arange(len(p_BV), device=p_BV.device)
    inner_BV = p_BNV[rows, block_B1[:, 0]].double().cumsum(-1)
    share_B1 = (uniform_B1 * cdf_BN[:, -1:] - before_B1) / inner_BV[:, -1:]
    return (block_B1 * _BLOCK + _locate(inner_BV, share_B1))[:, 0]


def _locate(cdf_BC: Tensor, share_B1: Tensor) -> Tensor:
    """The first place where the cumulative sum exceeds that share of its end: [B, 1].

    Never a place of probability 0: the sum does not grow there.
    """
    end_B1 = cdf_BC[:, -1:].contiguous()
    target_B1 = torch.minimum(share_B1 * end_B1, end_B1.nextafter(torch.zeros_like(end_B1)))
    place_B1 = torch.searchsorted(cdf_BC, target_B1, right=True)
    return place_B1.clamp_(max=cdf_BC.shape[-1] - 1)
