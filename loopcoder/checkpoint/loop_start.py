"""Where the later loops of a trained model start: close enough to loop 1 to lose almost nothing.

Loop 2 reads x^2 = a E + b h^1, one token back (SPEC.md section 1). With a = 1, b = 0 and gates
fully global it has loop 1's inputs, queries, keys and values, so h^2 = h^1 exactly, and so on for
every loop. Training could not leave that point by itself: b is a setting, not a weight, and a gate
that is saturated has no gradient. So b h is made small beside E, and the gates nearly global.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from loopcoder.checkpoint.llama import LlamaSource
from loopcoder.errors import CheckpointError, ConfigError

STATE_SHARE = 0.04  # rms(b h) / rms(E); docs/checkpoints.md has what larger ones cost
GATE_BIAS = 4.0  # g = 0.982 global; its slope is still 7 % of that of the even gate
_ROWS = 4096  # of the embedding that are squared at once, to spare memory


def start_scales(weights: LlamaSource, changes: Mapping[str, Any]) -> dict[str, float]:
    """`plt_emb_scale` a and `plt_hidden_scale` b to convert with, but for those in `changes`.

    a = 1 and b = `STATE_SHARE` * rms(embedding) / rms(final norm's weight), to four digits: after
    the norm, the rms of h is about that of the norm's weight. Both rms are without a unit.

    Raises `ConfigError` if h is not normed (`plt_normalize_per_loop` false), as its size cannot be
    told from the weights then, and `CheckpointError` if either rms is zero or not finite.
    """
    scales: dict[str, float] = {}
    if "plt_emb_scale" not in changes:
        scales["plt_emb_scale"] = 1.0
    if "plt_hidden_scale" not in changes:
        if changes.get("plt_normalize_per_loop") is False:
            raise ConfigError(
                "plt_normalize_per_loop is false, so the size of the state between loops, and with "
                "it plt_hidden_scale, does not follow from the weights; give one with "
                "--set plt_hidden_scale=0.001, say"
            )
        size_E = _rms(weights, "model.embed_tokens.weight")
        size_h = _rms(weights, "model.norm.weight")
        scales["plt_hidden_scale"] = float(f"{STATE_SHARE * size_E / size_h:.4g}")
    return scales


def _rms(weights: LlamaSource, name: str) -> float:
    tensor = weights.tensor(name, weights.dtypes[name])
    total = sum(_squares(part) for part in tensor.split(_ROWS))
    rms = math.sqrt(total / tensor.numel())
    if not (math.isfinite(rms) and rms > 0):
        raise CheckpointError(
            f"{name} has the root mean square {rms}, so plt_hidden_scale cannot be chosen; give a "
            "model that has been trained, or --set plt_hidden_scale=0.001, say"
        )
    return rms


def _squares(part: Tensor) -> float:
    return part.to(torch.float64).square().sum().item()
