"""A small model behind a real engine, and the oracle that its answers are compared with.

The oracle is the model's own serial forward pass without a cache. Tokens must be its choice, and
log-probabilities equal, to the written tolerance: a wrong state of a later loop moves these long
before it changes a token.
"""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from loopcoder.cache.paged import PagedMemory, PagedShape
from loopcoder.engine.core import Engine
from loopcoder.engine.scheduler import Limits
from loopcoder.engine.sequence import Request
from loopcoder.engine.wavefront import Wavefront
from loopcoder.model.plt import PLT
from loopcoder.types import RequestOutput, SamplingParams
from tests.small import small_model

VOCABULARY = 256
# Float64 models: the reports are float32; measured 1e-6. Float32 models: these weights amplify
# rounding from loop to loop; measured 3e-6 at one loop, 5e-4 at four.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 2e-3}


def small_plt(dtype: torch.dtype = torch.float64, **fields: object) -> PLT:
    """The model of `tests.small`, with what one loop hands to the next scaled up to matter.

    Heads are wide enough for the native kernels, which do not run in float64.
    """
    scale = 0.5 if dtype == torch.float64 else 0.1
    settled = {"plt_hidden_scale": scale, "plt_num_loops": 2, "head_dim": 16, **fields}
    trained = small_model(**settled)
    model = PLT(trained.model.shape)
    model.load_state_dict(trained.state_dict())
    return model.to(dtype).eval()


def small_engine(
    model: PLT,
    *,
    pages: int = 400,
    page_size: int = 4,
    slots: int = 8,
    rows: int = 64,
    tail: bool = True,
    serial: bool = False,
    **arguments: Any,
) -> Engine:
    """An engine over `pages` pages; `arguments` are `Engine`'s own."""
    config, like = model.config, model.model.norm.weight
    shape = PagedShape(
        layers=config.num_hidden_layers,
        groups=config.num_key_value_heads,
        head_dim=config.head_dim,
        window=config.window,
        page_size=page_size,
        dtype=like.dtype,
        device=like.device,
    )
    return Engine(
        model,
        PagedMemory(shape, pages=pages, slots=slots),
        limits=Limits(sequences=slots, rows=rows),
        wavefront=Wavefront(config, tail=tail, serial=serial),
        **arguments,
    )


def ask(name: object, tokens: Sequence[int], *, loops: int = 2, **params: Any) -> Request:
    """A greedy request for 8 tokens and their log-probabilities; `params` change it."""
    given = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True, "logprobs": 0, **params}
    settled = SamplingParams(loops=loops, **given)
    return Request(
        request_id=str(name),
        prompt=None,
        prompt_token_ids=list(tokens),
        params=settled,
        limit=settled.max_tokens,
    )


def random_prompt(random: Random, length: int) -> list[int]:
    """Any tokens."""
    return random.choices(range(VOCABULARY), k=length)


def finish(engine: Engine, requests: Iterable[Request] = ()) -> dict[str, RequestOutput]:
    """Add requests and step, checking integrity, until nothing is left; outputs by request."""
    for request in requests:
        engine.add(request)
    outputs = {}
    while engine.busy:
        for update in engine.step():
            if update.output is not None:
                outputs[update.request_id] = update.output
        engine.scheduler.check_integrity()
    return outputs


def token_ids(outputs: dict[str, RequestOutput]) -> dict[str, list[list[int]]]:
    """The tokens of every continuation."""
    return {name: [o.token_ids for o in output.outputs] for name, output in outputs.items()}


def check_empty(engine: Engine) -> None:
    """All memory and every slot is free, or kept for reuse alone."""
    pool, scheduler = engine.scheduler.ledger.pool, engine.scheduler
    assert not engine.busy
    assert not engine._answers
    assert pool.available == pool.count
    assert len(scheduler._slots) == scheduler.limits.sequences
    scheduler.check_integrity()
    scheduler.distrust()
    assert pool.free == pool.count


@torch.inference_mode()
def oracle_logprobs(model: PLT, texts: Sequence[Sequence[int]], loops: int) -> list[Tensor]:
    """Log-probabilities of the token after each position, for each text: [T, V].

    Texts of one batch are filled up on the right, which no position to the left of it sees.
    """
    found = []
    for start in range(0, len(texts), 50):
        batch = texts[start : start + 50]
        longest = max(map(len, batch))
        token_BT = torch.tensor([[*text, *[0] * (longest - len(text))] for text in batch])
        logp_BTV = model(token_BT, num_loops=loops).logits.float().log_softmax(-1)
        found += [row[: len(text)] for row, text in zip(logp_BTV, batch, strict=True)]
    return found


def check_against_oracle(
    model: PLT,
    requests: Iterable[Request],
    outputs: dict[str, RequestOutput],
) -> None:
    """Every greedy token is the oracle's (ties within rounding aside), every logprob its own."""
    tolerance = TOLERANCE[model.lm_head.weight.dtype]
    by_loops: dict[int, list[tuple[list[int], Any]]] = {}
    for request in requests:
        for output in outputs[request.request_id].outputs:
            assert len(output.token_ids) == request.limit
            by_loops.setdefault(request.loops, []).append((request.prompt_token_ids, output))
    assert by_loops
    for loops, pairs in by_loops.items():
        texts = [[*prompt, *output.token_ids] for prompt, output in pairs]
        for (prompt, output), logp_TV in zip(
            pairs, oracle_logprobs(model, texts, loops), strict=True
        ):
            _check_choices(len(prompt), output, logp_TV, tolerance)


def _check_choices(prompt: int, output: Any, logp_TV: Tensor, tolerance: float) -> None:
    chosen = torch.tensor(output.token_ids)
    logp_TV = logp_TV[prompt - 1 : -1]
    mine_T = logp_TV.gather(-1, chosen[:, None])[:, 0]
    assert bool((mine_T >= logp_TV.amax(-1) - tolerance).all()), "not the oracle's tokens"
    reported_T = torch.tensor(
        [seen[token].logprob for seen, token in zip(output.logprobs, output.token_ids, strict=True)]
    )
    assert float((reported_T - mine_T).abs().max()) <= tolerance
