"""One forward pass of the real model, and every measure of the samples in it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loopcoder.model.plt import PLT
from loopcoder.probes import measures
from loopcoder.probes.attention import AttentionMeasures, LayerAttention, measure_attention
from loopcoder.probes.conventions import Conventions
from loopcoder.probes.lens import read_lens
from loopcoder.probes.taps import Site, Taps

Array = NDArray[np.float64]
Place = tuple[str, int, int]  # measure, loop, layer


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """What to measure, beside how (`conventions`).

    `attention` and `fixed_point` (one more loop) are the measures that cost most.
    """

    conventions: Conventions = field(default_factory=Conventions)
    attention: bool = True
    fixed_point: bool = True


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The measures of B samples, each sample's own.

    `by_loop` holds, by measure, [loops, B], from the measure's first loop on; `by_head` holds
    [B, H], or [B] where a layer has one value; `similarity` [B, H, H]; `nats_RB` sums over tokens.
    """

    nats_RB: Array
    by_loop: dict[str, Array]
    by_head: dict[Place, Array]
    similarity: dict[tuple[int, int], Array]


@torch.inference_mode()
def observe(model: PLT, token_BT: Tensor, loops: int, options: ProbeOptions) -> Observed:
    """Run `loops` loops over B whole samples, and one more for the fixed-point gap.

    Loop r's states do not depend on the loops after it, so the one more changes nothing else.
    """
    watcher = _AttentionWatcher(loops, options)
    on = {"attention": watcher} if options.attention else {}
    gap = options.fixed_point and model.config.plt_num_loops > 1
    with Taps(model, on=on) as taps:
        model.model(token_BT, num_loops=loops + gap)
    by_loop = _of_states(taps, loops, options.conventions, gap)
    if model.config.plt_loop_offset == 0:
        by_loop.pop("offset_cost", None)  # no loop reads one token back, so it costs nothing
    nats_RB, of_output = _of_outputs(model, taps, token_BT, loops, options.conventions)
    return Observed(
        nats_RB=nats_RB,
        by_loop=by_loop | of_output,
        by_head=_gates(taps, loops, options.conventions.first_token) | watcher.by_head,
        similarity=watcher.similarity,
    )


def _of_states(taps: Taps, loops: int, conventions: Conventions, gap: bool) -> dict[str, Array]:
    first = conventions.first_token

    def of(measure: Callable[..., Tensor], *states: Tensor) -> Array:
        return _array(measure(*(x[:, first:] for x in states)).mean(-1, dtype=torch.float64))

    x = taps.u if conventions.step_state == "u" else taps.h
    offset = taps.h if conventions.offset_state == "h" else taps.u
    spectrum = taps.h if conventions.rank_state == "h" else taps.u
    steps = [of(measures.step_size, x[r], x[r - 1]) for r in range(1, loops + 1 + gap)]
    later = range(2, loops + 1)
    found = {
        "step_size": steps[:loops],
        "update_angle": [of(measures.update_angle, x[r], x[r - 1], x[r - 2]) for r in later],
        # f(u^r) is u^{r+1}: one more loop is the next loop.
        "fixed_point_gap": steps[1:] if gap else [],
        "offset_cost": [of(measures.offset_cost, offset[r - 1]) for r in later],
        "effective_rank": [
            _array(measures.effective_rank(spectrum[r][:, first:], conventions.rank_rows))
            for r in range(1, loops + 1)
        ],
    }
    return {name: np.stack(values) for name, values in found.items() if values}


def _of_outputs(
    model: PLT, taps: Taps, token_BT: Tensor, loops: int, conventions: Conventions
) -> tuple[Array, dict[str, Array]]:
    first = conventions.first_token
    found: dict[str, list[Array]] = {}
    nats = []
    for b, token_T in enumerate(token_BT):
        lens = read_lens(
            model.lm_head,
            [taps.h[r][b] for r in range(1, loops + 1)],
            token_T,
            from_previous=conventions.shift_direction == "from_previous",
        )
        nats.append(_array(lens.nats_RT.sum(-1, dtype=torch.float64)))
        values = {
            "loss": lens.nats_RT[:, first:].mean(-1, dtype=torch.float64),
            "truth_rank": lens.rank_RT[:, first:].double().quantile(0.5, dim=-1),
            "output_entropy": lens.entropy_RT[:, first:].mean(-1, dtype=torch.float64),
        }
        if loops > 1:
            shift_RT = lens.shift_RT[:, first:]
            values["output_shift"] = shift_RT.mean(-1, dtype=torch.float64)
            peak = torch.nn.functional.one_hot(shift_RT.argmax(0), loops - 1)
            values["peak_share"] = peak.double().mean(0)
        for name, value in values.items():
            found.setdefault(name, []).append(_array(value))
    return np.stack(nats, axis=1), {name: np.stack(v, axis=1) for name, v in found.items()}


def _gates(taps: Taps, loops: int, first: int) -> dict[Place, Array]:
    return {
        ("gate", loop, layer): _array(g_BTH[:, first:].mean(1, dtype=torch.float64))
        for loop in range(2, loops + 1)
        for layer, g_BTH in enumerate(taps.gate.get(loop, ()))
    }


class _AttentionWatcher:
    """Measures each layer's attention as it passes, keeping one loop's queries and keys."""

    def __init__(self, loops: int, options: ProbeOptions) -> None:
        self._loops, self._options = loops, options
        self._previous: dict[int, LayerAttention] = {}
        self.by_head: dict[Place, Array] = {}
        self.similarity: dict[tuple[int, int], Array] = {}

    def __call__(self, current: LayerAttention, site: Site) -> None:
        """A tap."""
        if site.loop > self._loops:  # the loop that is there for the fixed-point gap
            return
        assert site.layer is not None
        conventions = self._options.conventions
        found = measure_attention(
            current,
            self._previous.get(site.layer),
            shift_branch=conventions.attention_branch,
            shift_direction=conventions.shift_direction,
            first_query=conventions.first_token,
        )
        self._previous[site.layer] = current
        for name, value in _named(found).items():
            self.by_head[name, site.loop, site.layer] = _array(value)
        self.similarity[site.loop, site.layer] = _array(found.head_similarity_BHH)


def _named(found: AttentionMeasures) -> dict[str, Any]:
    values = {
        "attention_entropy_global": found.entropy_global_BH,
        "attention_entropy_local": found.entropy_local_BH,
        "attention_entropy_mixed": found.entropy_mixed_BH,
        "attention_shift": found.shift_BH,
        "head_rank": found.head_rank_B,
        "head_cosine": found.head_cosine_B,
    }
    return {name: value for name, value in values.items() if value is not None}


def _array(x: Tensor) -> Array:
    return x.detach().double().cpu().numpy()
