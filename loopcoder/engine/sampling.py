"""From logits to a token: temperature, top-k, top-p, min-p (vLLM's meanings, in its order)."""

import torch
from torch import Tensor

from loopcoder.types import SamplingParams


def new_generator(params: SamplingParams) -> torch.Generator:
    """The random stream of one request; without a seed it differs each time."""
    generator = torch.Generator()
    if params.seed is None:
        generator.seed()
    else:
        generator.manual_seed(params.seed)
    return generator


def sample(logits_V: Tensor, params: SamplingParams, generator: torch.Generator) -> int:
    """One token id. Temperature 0 is the largest logit."""
    if params.temperature == 0:
        return int(logits_V.argmax())
    # Sampling runs on the CPU in float32, so that a seed means the same on every device.
    logits_V = logits_V.float().cpu() / params.temperature
    weights_V = _filtered(logits_V, params).softmax(-1)
    return int(torch.multinomial(weights_V, 1, generator=generator))


def _filtered(logits_V: Tensor, params: SamplingParams) -> Tensor:
    removed = float("-inf")
    if 0 < params.top_k < logits_V.numel():
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(params.top_k).values[-1], removed)
    if params.top_p < 1:
        p_V, order_V = logits_V.softmax(-1).sort(descending=True)
        # A token goes when those before it already hold top_p; the first always stays.
        logits_V = logits_V.index_fill(0, order_V[p_V.cumsum(0) - p_V >= params.top_p], removed)
    if params.min_p > 0:
        p_V = logits_V.softmax(-1)
        logits_V = logits_V.masked_fill(p_V < params.min_p * p_V.max(), removed)
    return logits_V
