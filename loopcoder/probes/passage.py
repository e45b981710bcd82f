"""A piece of text token by token: what each loop expected, and how far it moved from the last."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from loopcoder.errors import RequestError
from loopcoder.model.lens import log_probabilities
from loopcoder.model.plt import PLT
from loopcoder.probes.lens import read_lens
from loopcoder.records.rows import Candidate, PassageRow, PassageToken, Source


@torch.inference_mode()
def read_passage(
    model: PLT,
    token_ids: Sequence[int],
    text_of: Callable[[int], str],
    source: Source,
    *,
    document: str,
    loops: int | None = None,
    top: int = 5,
) -> PassageRow:
    """Every token of `token_ids` with the `top` candidates of each loop in its place.

    `text_of` gives a token's text. Raises `RequestError` for a loop count that cannot be run, and
    for fewer than two tokens.
    """
    if len(token_ids) < 2:
        raise RequestError(f"the passage {document} has {len(token_ids)} tokens; give two or more")
    device = model.model.embed_tokens.weight.device
    token_T = torch.tensor(list(token_ids), device=device)
    states = model.model(token_T[None], num_loops=loops)
    h_RTD = [state.h[0] for state in states]
    lens = read_lens(model.lm_head, h_RTD, token_T)
    best = [_best(model, h_TD, top) for h_TD in h_RTD]
    tokens = [_unexpected(text_of(token_ids[0]))]
    for t, token_id in enumerate(token_ids[1:]):
        tokens.append(
            PassageToken(
                text=text_of(token_id),
                shift=_rounded(lens.shift_RT[:, t]),
                entropy=_rounded(lens.entropy_RT[:, t]),
                rank=lens.rank_RT[:, t].tolist(),
                probability=_rounded((-lens.nats_RT[:, t]).exp()),
                candidates=[
                    [
                        Candidate(text=text_of(i), probability=round(p, 5))
                        for p, i in zip(p_TX[t].tolist(), id_TX[t].tolist(), strict=True)
                    ]
                    for p_TX, id_TX in best
                ],
            )
        )
    return PassageRow(source=source, document=document, loops=len(h_RTD), tokens=tokens)


def _unexpected(text: str) -> PassageToken:
    return PassageToken(text=text, shift=[], entropy=[], rank=[], probability=[], candidates=[])


def _best(model: PLT, h_TD: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The most probable tokens at each position: probabilities and ids, [T, top]."""
    pieces = [log_probabilities(model.lm_head(h)).topk(top) for h in h_TD.split(64)]
    return torch.cat([p.values for p in pieces]).exp(), torch.cat([p.indices for p in pieces])


def _rounded(x_R: Tensor) -> list[float]:
    return [round(value, 5) for value in x_R.tolist()]
