"""The output lens: p^r = softmax(lm_head(h^r)), what loop r would predict (SPEC.md section 5).

Pure functions of predictions, in nats, for probes and engine alike. An ellipsis stands for any
leading axes.
"""

import torch
from torch import Tensor
from torch.linalg import vecdot


def log_probabilities(logits: Tensor) -> Tensor:
    """log p of logits [..., V]: [..., V] in float32, or in float64 where they are."""
    precise = torch.promote_types(logits.dtype, torch.float32)
    return logits.log_softmax(-1, dtype=precise)


def entropy(log_p: Tensor, p: Tensor | None = None) -> Tensor:
    """-sum p log p of log-probabilities [..., V]: [...]. `p` spares making it anew."""
    p = log_p.exp() if p is None else p
    finite = log_p.clamp_min(torch.finfo(log_p.dtype).min)  # 0 log 0 is 0
    nats: Tensor = -vecdot(p, finite)
    return nats


def kl(log_p: Tensor, log_q: Tensor, p: Tensor | None = None) -> Tensor:
    """KL(p ‖ q) of log-probabilities [..., V]: [...]; where p is 0 it adds nothing."""
    p = log_p.exp() if p is None else p
    difference = (log_p - log_q).masked_fill_(p == 0, 0.0)
    nats: Tensor = vecdot(p, difference)
    return nats
