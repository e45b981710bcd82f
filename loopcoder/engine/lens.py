"""The loop lens: what every loop would have written in each chosen token's place.

States of the loops before the last are there anyway: they are what the next loop reads at the next
token. So the lens costs one more product with the head, over R - 1 rows a token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loopcoder.engine.gates import Gates
from loopcoder.engine.logprobs import row_logprobs
from loopcoder.engine.runner import Runner
from loopcoder.engine.sampling import Choice
from loopcoder.engine.scheduler import Ready
from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.model.lens import entropy, kl, log_probabilities
from loopcoder.types import LoopLens

_VALUES = 2**16  # logits read at once: their copies stay in a core's own cache


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A chosen token to look at, with `count` candidates: its logits by loop, and its gates."""

    row: int
    token_id: int
    count: int
    logits_RV: Tensor
    gate: tuple[Gates, ...]


def loop_lenses(
    runner: Runner,
    ready: Sequence[Ready],
    choices: Sequence[Choice],
    logits_BV: Tensor,
    texts: TokenTexts | None = None,
) -> list[LoopLens | None]:
    """The lens on each choice whose request asks for it (SPEC.md section 5), None for the others.

    `logits_BV` are the last loop's, from which the choices came: asking changes no token. All
    values are of untouched logits, as log-probabilities are. `texts` fills in
    `Logprob.decoded_token`.
    """
    lenses: list[LoopLens | None] = [None] * len(ready)
    asked = _asked(runner, ready, choices, logits_BV)
    if asked:
        size = max(1, _VALUES // max(each.logits_RV.numel() for each in asked))
        for first in range(0, len(asked), size):
            block = asked[first : first + size]
            for each, lens in zip(block, _read(block, texts), strict=True):
                lenses[each.row] = lens
    return lenses


def _asked(
    runner: Runner, ready: Sequence[Ready], choices: Sequence[Choice], logits_BV: Tensor
) -> list[_Asked]:
    """The rows under the lens; one product with the head makes the logits of all earlier loops."""
    wanted = [
        (row, choice.token_id, count, each.source)
        for row, (each, choice) in enumerate(zip(ready, choices, strict=True))
        if (count := each.sequence.request.params.loop_lens) is not None
        and choice.token_id is not None
    ]
    before = runner.logits_before([source for *_, source in wanted]) if wanted else []
    return [
        _Asked(
            row=row,
            token_id=token_id,
            count=count,
            logits_RV=torch.cat([logits_EV, logits_BV[row : row + 1]]),
            gate=runner.gates.of(source.slot, source.loops),
        )
        for (row, token_id, count, source), logits_EV in zip(wanted, before, strict=True)
    ]


def _read(asked: Sequence[_Asked], texts: TokenTexts | None) -> Iterator[LoopLens]:
    """The lens on each of some tokens, whose loops stand one after another."""
    logits_NV = torch.cat([each.logits_RV for each in asked])
    candidates = row_logprobs(
        logits_NV,
        [each.token_id for each in asked for _ in each.logits_RV],
        [each.count for each in asked for _ in each.logits_RV],
        texts,
    )
    log_p_NV = log_probabilities(logits_NV)
    p_NV = log_p_NV.exp()
    # Neither is below 0 but by rounding. A token's first row is read against another token's last.
    nats_N = entropy(log_p_NV, p_NV).clamp_min(0).tolist()
    shift_N = [0.0, *kl(log_p_NV[1:], log_p_NV[:-1], p_NV[1:]).clamp_min(0).tolist()]
    stop = 0
    for each in asked:
        first, stop = stop, stop + len(each.logits_RV)
        yield LoopLens(
            candidates=tuple(candidates[first:stop]),
            entropy=tuple(nats_N[first:stop]),
            shift=tuple(shift_N[first + 1 : stop]),
            gate=each.gate,
        )
