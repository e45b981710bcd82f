"""What loops hand on: h^r of tokens that the next loop has still to read (SPEC.md section 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor


class HandedStates:
    """States of loops 1..R-1, by sequence slot.

    In decoding only those of the newest token count: `newest_SRD` [slots, R - 1, D]. In prefill a
    loop runs ahead of the next one, and what lies between waits here, as runs of tokens: what no
    goal needs was never computed.
    """

    def __init__(self, slots: int, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.newest_SRD = torch.zeros(slots, 0, width, dtype=dtype, device=device)
        self._waiting: dict[tuple[int, int], list[tuple[int, Tensor]]] = {}

    def admit(self, slot: int, start: int, states: Sequence[object]) -> None:
        """A sequence takes over `slot`; `states` [R - 1] were handed on at token `start` - 1."""
        for key in [key for key in self._waiting if key[0] == slot]:
            del self._waiting[key]
        self.reserve(len(states))
        for loop, state in enumerate(states):
            assert isinstance(state, Tensor)
            self.newest_SRD[slot, loop] = state
            self._waiting[slot, loop] = [(start - 1, state[None])]

    def reserve(self, later: int) -> None:
        """Room for `later` loops beyond the first."""
        S, R, D = self.newest_SRD.shape
        if later > R:
            wider = self.newest_SRD.new_zeros(S, later, D)
            wider[:, :R] = self.newest_SRD
            self.newest_SRD = wider

    def before(self, slot: int, loop: int, start: int, stop: int) -> Tensor:
        """h^{r-1}_{t-1} for t from `start` to `stop`, r = `loop` (0-based, >= 1): [T, D].

        Zero before the first token.
        """
        zero_1D = self.newest_SRD.new_zeros(1, self.newest_SRD.shape[2])
        if stop == 1:  # the first token reads nothing, and may run before the loop below did
            return zero_1D
        runs = self._waiting[slot, loop - 1]
        begin = max(start - 1, 0)
        while runs[0][0] + len(runs[0][1]) <= begin:
            del runs[0]
        first, h_TD = runs[0]
        read_TD = h_TD[begin - first : stop - 1 - first]
        assert first <= begin, "a state was dropped before the next loop read it"
        assert len(read_TD) == stop - 1 - begin, "a loop ran ahead of the one before"
        runs[0] = (stop - 1, h_TD[stop - 1 - first :].clone())
        if start == 0:
            read_TD = torch.cat([zero_1D, read_TD])
        return read_TD

    def after(self, slot: int, loop: int, start: int, h_TD: Tensor) -> None:
        """Keep what `loop` (0-based) handed on at tokens `start` and up."""
        if not len(h_TD):
            return
        self.reserve(loop + 1)
        self.newest_SRD[slot, loop] = h_TD[-1]
        runs = self._waiting.setdefault((slot, loop), [])
        if runs and runs[-1][0] + len(runs[-1][1]) == start:
            first, waiting_TD = runs.pop()
            runs.append((first, torch.cat([waiting_TD, h_TD])))
        else:
            runs.append((start, h_TD.clone()))

    def state(self, slot: int, loop: int, token: int) -> Tensor:
        """What `loop` handed on at `token`, which still waits for the next loop: [D]."""
        first, h_TD = next(
            run for run in self._waiting[slot, loop] if run[0] <= token < run[0] + len(run[1])
        )
        return h_TD[token - first].clone()

    def states(self, slot: int, loops: int) -> list[object]:
        """What loops 1..R-1 handed on at the newest token: R - 1 of [D]."""
        return list(self.newest_SRD[slot, : loops - 1].clone())
