"""One sequence, token by token: prefill, then all R loops of a token in one forward pass."""

from collections.abc import Generator

import torch

from loopcoder.cache.contiguous import CacheShape, ContiguousCache
from loopcoder.engine.sampling import new_generator, sample
from loopcoder.model.layout import plain_layout
from loopcoder.model.plt import PLT
from loopcoder.types import SamplingParams


def new_cache(model: PLT, loops: int, batch: int = 1) -> ContiguousCache:
    """An empty memory for `batch` sequences of `model` at `loops` loops."""
    shape = CacheShape.of(model.config, loops=loops, batch=batch, like=model.lm_head.weight)
    return ContiguousCache(shape)


@torch.inference_mode()
def step(
    model: PLT, cache: ContiguousCache, token_BT: torch.Tensor, *, together: bool = True
) -> torch.Tensor:
    """Take the cache T tokens further: last-loop logits at the last of them, [B, V].

    One token runs all its loops in a single pass (SPEC.md section 2), unless `together` is false.
    """
    B, T = token_BT.shape
    layout = plain_layout(B, T, token_BT.device, past=cache.length)
    E_BTD = model.model.embed(token_BT)
    states = model.model.advance(E_BTD, layout, cache, cache.shape.loops, together=together)
    logits_BV: torch.Tensor = model.lm_head(states[-1].h[:, -1])
    return logits_BV


def decode(
    model: PLT, prompt_token_ids: list[int], params: SamplingParams, *, together: bool = True
) -> Generator[int, None, None]:
    """Sample tokens after a prompt, without end; the caller decides when to stop."""
    loops = model.model.check_loops(params.loops)
    cache, generator = new_cache(model, loops), new_generator(params)
    device = model.lm_head.weight.device
    new = torch.tensor([prompt_token_ids], device=device)
    while True:
        logits_BV = step(model, cache, new, together=together)
        token_id = sample(logits_BV[0], params, generator)
        yield token_id
        new = torch.tensor([[token_id]], device=device)
