"""Decode steps as CUDA graphs: captured once for each shape in use, then replayed.

A decode step starts hundreds of small kernels, which on a GPU costs more than running them. What
differs between two steps of one shape, (sequences, loops), is only the contents of a few tensors;
a graph keeps its own copies of those, which are filled before each replay.
"""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from loopcoder.cache.wave import WaveKV
from loopcoder.model.layers import Rows
from loopcoder.model.plt import LoopState

Layers = Callable[[Tensor, Rows, WaveKV], LoopState]
Work = Callable[[], LoopState]
MOST_GRAPHS = 64


def cuda_graph(work: Work) -> Work:
    """Capture `work`; the result repeats it on the same tensors, and returns the same tensors."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # the first run compiles kernels, which no graph may do
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        state = work()

    def replay() -> LoopState:
        graph.replay()
        return state

    return replay


class GraphedLayers:
    """`layers`, captured for each shape of decode steps; least recently used shapes are dropped.

    `capture` is how, `cuda_graph` but for tests. The state that comes back is overwritten by the
    next step of its shape.
    """

    def __init__(self, layers: Layers, capture: Callable[[Work], Work] = cuda_graph) -> None:
        self._layers = layers
        self._capture = capture
        self._graphs: OrderedDict[tuple[object, ...], tuple[list[Tensor], Work]] = OrderedDict()

    def __call__(self, x_ND: Tensor, rows: Rows, kv: WaveKV) -> LoopState:
        """Run a step of single tokens. Steps with chunks of prompts are not for graphs."""
        assert kv.decoding
        assert not rows.kept
        inputs = [x_ND, rows.cos_NK, rows.sin_NK, *kv.tensors()]
        key = (rows.later, *kv.bounds(), *(tuple(x.shape) for x in inputs))
        if key not in self._graphs:
            own = [x.clone() for x in inputs]
            mine = Rows(cos_NK=own[1], sin_NK=own[2], later=rows.later)
            view = kv.over(own[3:])
            self._graphs[key] = (own, self._capture(lambda: self._layers(own[0], mine, view)))
            if len(self._graphs) > MOST_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        own, replay = self._graphs[key]
        for kept, new in zip(own, inputs, strict=True):
            kept.copy_(new)
        return replay()
