"""Captured decode steps: the exchange of tensors, which is all that a replay sees, on the CPU."""

from collections.abc import Callable

import pytest
import torch

from loopcoder import LLM, SamplingParams
from loopcoder.engine.graphs import GraphedLayers, Work
from loopcoder.kernels import native

PROMPTS = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
PARAMS = [SamplingParams(max_tokens=40, temperature=0, loops=loops) for loops in (1, 2, 3)]


def again(work: Work) -> Work:
    """In place of a CUDA graph: repeat the work on the tensors of the first time."""
    return work


@pytest.mark.skipif(native.library() is None, reason="the twin's attention cannot be captured")
def test_replays_see_each_step_and_shapes_are_captured_once() -> None:
    plain, graphed = (LLM("loopcoder-nano", dtype="float32", max_model_len=256) for _ in range(2))
    captured = []

    def counted(work: Work) -> Callable[[], object]:
        captured.append(work)
        return again(work)

    runner = graphed.engine.runner
    runner._graphed = GraphedLayers(graphed.model.model.run_layers, counted)
    wanted = [out.outputs[0].token_ids for out in plain.generate(PROMPTS, PARAMS)]
    assert [out.outputs[0].token_ids for out in graphed.generate(PROMPTS, PARAMS)] == wanted
    once = len(captured)
    assert 0 < once < 12, "one for each set of sequences that decode together, not for each step"
    assert [out.outputs[0].token_ids for out in graphed.generate(PROMPTS, PARAMS)] == wanted
    assert len(captured) - once <= 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same_tokens_as_the_cpu() -> None:
    wanted = LLM("loopcoder-nano", dtype="float32", device="cpu").generate(PROMPTS, PARAMS)
    found = LLM("loopcoder-nano", dtype="float32", device="cuda").generate(PROMPTS, PARAMS)
    assert [o.outputs[0].token_ids for o in found] == [o.outputs[0].token_ids for o in wanted]
