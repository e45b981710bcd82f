"""The gates of the rows that choose tokens, watched for requests that ask for the loop lens."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from loopcoder.cache.wave import Run, Wave
from loopcoder.engine.wavefront import Span
from loopcoder.model.plt import PLTModel

Gates = tuple[float, ...]  # one a layer: the mean over heads


def watched(span: Span) -> bool:
    """Whether the span ends with a gated row that chooses a token under the lens."""
    sequence = span.sequence
    asked = sequence.request.params.loop_lens is not None
    return asked and span.loop > 0 and span.stop == len(sequence.tokens)


@contextmanager
def gates_of(model: PLTModel) -> Iterator[list[Tensor]]:
    """The gates [M, H] of the later loops' rows in each layer that runs meanwhile, in order."""
    seen: list[Tensor] = []

    def see(module: object, inputs: object, g_MH: Tensor) -> None:
        seen.append(g_MH)

    layers: Any = model.layers
    handles = [layer.self_attn.plt_gate.register_forward_hook(see) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class NewestGates:
    """The gates of each watched sequence's newest token, by slot and loop.

    Loops of a prompt's end may run in different steps, so what a loop has shown stays here until
    the last one chooses. The newest token always runs in every loop, after reuse of a prefix too.
    """

    def __init__(self) -> None:
        self._gates: dict[tuple[int, int], Gates] = {}

    def keep(self, wave: Wave, spans: Sequence[Span], gates: Sequence[Tensor]) -> None:
        """Note the watched rows of a step; `spans` in the order of the wave's runs."""
        runs = [run for run, span in zip(wave.runs, spans, strict=True) if watched(span)]
        assert len(gates) == wave.layers
        rows_LX, above = [], 0
        for layer, g_MH in enumerate(gates, 1):  # a layer's gates are of the rows that it passes on
            place = _newest(wave, layer)
            rows_LX.append([above + place[run] for run in runs])
            above += len(g_MH)
        g_NH = torch.cat(list(gates))
        g_LX = g_NH[torch.tensor(rows_LX, device=g_NH.device)].mean(-1, dtype=torch.float32)
        for run, g_L in zip(runs, g_LX.T.tolist(), strict=True):
            self._gates[run.slot, run.loop] = tuple(g_L)

    def of(self, slot: int, loops: int) -> tuple[Gates, ...]:
        """By loop 2..R of the sequence in `slot`."""
        return tuple(self._gates[slot, loop] for loop in range(1, loops))


def _newest(wave: Wave, layer: int) -> dict[Run, int]:
    """Where each later run's last row stands among the later loops' rows that enter `layer`."""
    places = wave.places[layer]
    single = {run: number for number, run in enumerate(wave.single_later)}
    return single | {run: stop - 1 - places.later for run, _, stop in places.behind}
