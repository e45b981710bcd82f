"""Loops while training: how many a step runs, and what each of them loses (`[loops]`)."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from loopcoder.hf.modeling import IQuestPLTCoderForCausalLM
from loopcoder.train.recipe import Loops

_OURS = re.compile(r"loops|objective|loss_with_\d+_loops|loss_of_loop_\d+")
_STREAM = 0x6C6F6F70  # sets these draws apart from those of the data's order


def step_loops(sample: Sequence[int], *, seed: int, step: int) -> int:
    """The loop count that step `step` (from 1) runs: one of `sample`, each as likely.

    The same on every machine and numpy version, whatever steps ran before.
    """
    raw = int(np.random.PCG64(np.random.SeedSequence([seed, step, _STREAM])).random_raw())
    return sample[raw * len(sample) >> 64]


def head_losses(
    network: IQuestPLTCoderForCausalLM,
    states: Sequence[Tensor],
    labels_BT: Tensor,
    items: Tensor | int | None,
) -> list[Tensor]:
    """Cross-entropy of lm_head(h) against the same labels, for each h [B, T, D] of `states`.

    `items` as the model's `num_items_in_batch`. Logits are computed again in the backward pass,
    so that those of one loop at a time are in memory.
    """

    def loss_of(h_BTD: Tensor) -> Tensor:
        loss: Tensor = network.loss_function(
            logits=network.lm_head(h_BTD),
            labels=labels_BT,
            vocab_size=network.config.vocab_size,
            num_items_in_batch=items,
        )
        return loss

    return [
        checkpoint(loss_of, h_BTD, use_reentrant=False, preserve_rng_state=False)
        for h_BTD in states
    ]


class LoopTally:
    """What `metrics.jsonl` says of loops: means over the steps since the row before.

    - `loops`, where the count is drawn, and `loss_with_R_loops`: the last loop's loss of the steps
      that ran R;
    - `objective`, where every loop is learned from: the mean over loops, which is what the
      optimizer lowers; and `loss_of_loop_r`, in the steps that ran loop r.
    """

    def __init__(self, settings: Loops) -> None:
        self._settings = settings
        self._loops: dict[int, int] = {}  # of each step
        self._sums: dict[str, Tensor] = {}
        self._steps: dict[str, set[int]] = {}  # that each sum is of

    def add(self, step: int, loops: int, losses: Sequence[Tensor]) -> None:
        """The share of a micro-batch in its step's losses: of every loop, or of the last alone."""
        self._loops[step] = loops
        if self._settings.sample:
            self._add(step, f"loss_with_{loops}_loops", losses[-1])
        if self._settings.loss == "every":
            self._add(step, "objective", torch.stack(list(losses)).mean())
            for loop, loss in enumerate(losses, 1):
                self._add(step, f"loss_of_loop_{loop}", loss)

    def _add(self, step: int, name: str, loss: Tensor) -> None:
        part = loss.detach()
        self._sums[name] = self._sums[name] + part if name in self._sums else part
        self._steps.setdefault(name, set()).add(step)

    def take(self) -> dict[str, float]:
        """The means, and begin anew. Waits for the device."""
        means = {name: float(x) / len(self._steps[name]) for name, x in sorted(self._sums.items())}
        if self._settings.sample and self._loops:
            means["loops"] = sum(self._loops.values()) / len(self._loops)
        self._loops, self._sums, self._steps = {}, {}, {}
        return means


def of_loops(logs: Mapping[str, float]) -> dict[str, float]:
    """Those numbers of a log row that a `LoopTally` gave."""
    return {name: number for name, number in logs.items() if _OURS.fullmatch(name)}
