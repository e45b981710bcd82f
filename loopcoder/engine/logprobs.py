"""Log-probabilities of chosen tokens and of the most likely ones beside them (vLLM's meanings).

They are of the untouched logits: before temperature, penalties and cuts.
"""

from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor

from loopcoder.engine.ranking import ranked
from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.types import Logprob


def row_logprobs(
    logits_BV: Tensor,
    token_ids: Sequence[int],
    counts: Sequence[int],
    texts: TokenTexts | None = None,
) -> list[dict[int, Logprob]]:
    """For each row its token first, then its `counts` most likely tokens (-1: all of them).

    A rank is 1 plus the number of tokens that are strictly more likely. `texts` fills in
    `decoded_token`.
    """
    V = logits_BV.shape[-1]
    counts = [V if count < 0 else min(count, V) for count in counts]
    x_BV = logits_BV.detach().float()
    # In front the row's own token, behind it the likeliest: one read of both.
    own_B1 = torch.tensor(token_ids, device=x_BV.device)[:, None]
    id_BC = torch.cat((own_B1, _top(x_BV, max(counts))), 1)
    value_BC = x_BV.log_softmax(-1).gather(-1, id_BC)
    # Ranks are of the logits: rounding makes equal log-probabilities of different ones.
    logit_BC = x_BV.gather(-1, id_BC)
    rank_B1 = (x_BV > logit_BC[:, :1]).sum(-1, keepdim=True) + 1
    rank_BC = torch.cat((rank_B1, _ranks(logit_BC[:, 1:])), 1)
    ids, values, ranks = id_BC.tolist(), value_BC.tolist(), rank_BC.tolist()
    rows = [zip(*lists, strict=True) for lists in zip(ids, values, ranks, strict=True)]
    return [
        {
            token: Logprob(value, rank, None if texts is None else texts.text(token))
            for token, value, rank in islice(row, count + 1)
        }
        for row, count in zip(rows, counts, strict=True)
    ]


def _top(x_BV: Tensor, count: int) -> Tensor:
    """Ids of the `count` largest of each row, equal ones in order of ids: [B, count]."""
    if count == 0:
        return torch.empty(len(x_BV), 0, dtype=torch.long, device=x_BV.device)
    more, V = count + 1, x_BV.shape[-1]
    _, id_BC, known_B = ranked(x_BV, more)
    while more < V and bool((known_B < count).any()):
        more *= 8
        _, id_BC, known_B = ranked(x_BV, more)
    return id_BC[:, :count]


def _ranks(x_BC: Tensor) -> Tensor:
    """Ranks in rows that fall: the place of the first of equal values, from 1."""
    place_C = torch.arange(1, x_BC.shape[1] + 1, device=x_BC.device)
    first_BC = torch.ones_like(x_BC, dtype=torch.bool)
    first_BC[:, 1:] = x_BC[:, 1:] < x_BC[:, :-1]
    ranks_BC: Tensor = (place_C * first_BC).cummax(-1).values if x_BC.shape[1] else first_BC.long()
    return ranks_BC


def prompt_logprobs(
    head: Callable[[Tensor], Tensor],
    h_TD: Tensor,
    next_token_ids: Sequence[int],
    count: int,
    texts: TokenTexts | None = None,
    *,
    block: int = 64,
) -> list[dict[int, Logprob]]:
    """Log-probabilities of the token after each of T prompt positions.

    `head` turns last-loop states [T, D] into logits [T, V]. It is called on `block` positions at a
    time, so that at most `block` rows of the vocabulary's width are in memory. vLLM's list has None
    before these: nothing comes before the first prompt token.
    """
    assert len(h_TD) == len(next_token_ids)
    reports: list[dict[int, Logprob]] = []
    for start in range(0, len(h_TD), block):
        token_ids = next_token_ids[start : start + block]
        logits_BV = head(h_TD[start : start + block])
        reports += row_logprobs(logits_BV, token_ids, [count] * len(token_ids), texts)
    return reports
