"""The output lens: what each loop would predict if the model stopped after it (SPEC.md section 5).

p^r = softmax(lm_head(h^r)). Measured where there is a true next token, so at all positions of a
sequence but the last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from loopcoder.model.lens import entropy, kl, log_probabilities
from loopcoder.probes.measures import rank_of

Head = Callable[[Tensor], Tensor]
_VALUES = 2**22  # logits of a block and loop held at once: 16 MB in float32


@dataclass(frozen=True, kw_only=True)
class Lens:
    """By loop (axis R: loops 1..R) and position, of one sequence; `shift` has loops 2..R."""

    nats_RT: Tensor  # -log p^r(next token)
    rank_RT: Tensor  # of the next token, 1 the top
    entropy_RT: Tensor
    shift_RT: Tensor  # KL(p^r | p^{r-1}), or from_previous: KL(p^{r-1} | p^r)


def read_lens(
    head: Head, h_RTD: Sequence[Tensor], token_T: Tensor, *, from_previous: bool = False
) -> Lens:
    """The lens over h^1 .. h^R, each [T, D], of the sequence `token_T`; T - 1 positions.

    Logits are made for a block of positions at a time, so that memory does not grow with T V.
    """
    V = head(h_RTD[0][:1]).shape[-1]
    size = max(1, _VALUES // V)
    blocks = []
    for first in range(0, len(token_T) - 1, size):
        rows = slice(first, min(first + size, len(token_T) - 1))
        log_p = [log_probabilities(head(h[rows])) for h in h_RTD]
        blocks.append(_block(log_p, token_T[1:][rows], from_previous))
    return Lens(
        nats_RT=torch.cat([b.nats_RT for b in blocks], dim=1),
        rank_RT=torch.cat([b.rank_RT for b in blocks], dim=1),
        entropy_RT=torch.cat([b.entropy_RT for b in blocks], dim=1),
        shift_RT=torch.cat([b.shift_RT for b in blocks], dim=1),
    )


def _block(log_p: list[Tensor], next_T: Tensor, from_previous: bool) -> Lens:
    """Each p is made once."""
    p = [each.exp() for each in log_p]
    loops = list(zip(p, log_p, strict=True))
    pairs = pairwise(reversed(loops) if from_previous else loops)
    shifts = [kl(log_p_r, log_q, p_r) for (_, log_q), (p_r, log_p_r) in pairs]
    shifts = shifts[::-1] if from_previous else shifts
    none = next_T.new_empty(0, len(next_T), dtype=log_p[0].dtype)
    return Lens(
        nats_RT=torch.stack([-each.gather(-1, next_T[:, None])[:, 0] for each in log_p]),
        rank_RT=torch.stack([rank_of(each, next_T) for each in log_p]),
        entropy_RT=torch.stack([entropy(log_p_r, p_r) for p_r, log_p_r in loops]),
        shift_RT=torch.stack(shifts) if shifts else none,
    )
