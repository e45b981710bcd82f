"""The rows of one step and their view of paged memory: the engine's `KVView`.

Rows stand in four groups, those of loop 1 first, as the layer wants it:

    [loop 1: chunks | loop 1: single tokens | later loops: single tokens | later loops: chunks]

Single tokens, those of decoding, share one attention call over pages; chunks of prompts go one by
one. All loops of a token lie in one group of that call, so its keys are read from memory once.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from loopcoder.cache.paged import PagedMemory
from loopcoder.kernels.masks import window_mask
from loopcoder.kernels.paged import PagedRows, paged_attention
from loopcoder.kernels.window import window_attention


@dataclass(frozen=True, eq=False, kw_only=True)  # a run is itself, not its values
class Run:
    """Tokens `start` to `stop` of the sequence in `slot`, in one loop (0-based).

    `lows` [L + 1] are the first tokens that must be exact before each layer and at the end: rows
    below drop out (None: none do). Loop-1 keys below `stored` are in memory and stay. `single`
    marks the newest token of a sequence that decodes.
    """

    slot: int
    loop: int
    start: int
    stop: int
    lows: tuple[int, ...] | None = None
    stored: int = 0
    single: bool = False

    def first(self, layer: int) -> int:
        """The first token whose row enters `layer` (L: leaves the last one)."""
        if self.lows is None:
            return self.start
        return min(max(self.start, self.lows[layer]), self.stop)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the groups lie among the rows that enter a layer."""

    ahead: list[tuple[Run, int, int]]  # loop-1 chunks: rows from, to
    single: int
    later: int
    behind: list[tuple[Run, int, int]]  # later loops' chunks
    rows: int


class Wave:
    """Runs in the order of their rows, and where each row stands at every layer."""

    def __init__(self, runs: Sequence[Run], layers: int) -> None:
        self.layers = layers
        self.ahead = [run for run in runs if run.loop == 0 and not run.single]
        self.single = [run for run in runs if run.loop == 0 and run.single]
        self.single_later = [run for run in runs if run.loop and run.single]
        self.behind = [run for run in runs if run.loop and not run.single]
        self.runs = [*self.ahead, *self.single, *self.single_later, *self.behind]
        self.places = [self._at(layer) for layer in range(layers + 1)]

    def _at(self, layer: int) -> Places:
        ahead, at = self._lay(self.ahead, 0, layer)
        later = at + len(self.single)
        behind, rows = self._lay(self.behind, later + len(self.single_later), layer)
        return Places(ahead=ahead, single=at, later=later, behind=behind, rows=rows)

    @staticmethod
    def _lay(runs: list[Run], at: int, layer: int) -> tuple[list[tuple[Run, int, int]], int]:
        laid = []
        for run in runs:
            stop = at + run.stop - run.first(layer)
            laid.append((run, at, stop))
            at = stop
        return laid, at

    def positions(self) -> np.ndarray:
        """The token each row stands at."""
        ahead, behind = (
            [np.arange(run.start, run.stop) for run in runs] for runs in (self.ahead, self.behind)
        )
        single = [run.start for run in (*self.single, *self.single_later)]
        return np.concatenate([*ahead, np.array(single, dtype=np.int64), *behind])

    def kept(self, layer: int) -> np.ndarray | None:
        """Rows that go on after `layer` has written, as indices; None if all do."""
        before, after = self.places[layer], self.places[layer + 1]
        if before.rows == after.rows:
            return None
        kept = np.ones(before.rows, dtype=bool)
        for run, at, _ in (*before.ahead, *before.behind):
            kept[at : at + run.first(layer + 1) - run.first(layer)] = False
        return np.flatnonzero(kept)


class WaveKV:
    """A `KVView` of a wave's rows over paged memory."""

    def __init__(self, memory: PagedMemory, wave: Wave) -> None:
        self.memory, self.wave = memory, wave
        device = memory.shape.device
        single = [*wave.single, *wave.single_later]
        self._write_M = torch.from_numpy(self._flat_slots()).to(device)
        self._global = self._global_rows(single) if single else None
        self._local = self._local_rows() if wave.single_later else None
        self._own: dict[Run, tuple[Tensor, Tensor]] = {}
        self._masks: dict[tuple[int, int], Tensor] = {}

    def _flat_slots(self) -> np.ndarray:
        """Where the bulk of the rows, all but later loops' chunks, keep their keys."""
        memory, size = self.memory, self.memory.shape.page_size
        parts = []
        for run in self.wave.ahead:
            page, offset = np.divmod(np.arange(run.start, run.stop), size)
            flat = memory.table[run.slot, page].astype(np.int64) * size + offset
            flat[: max(0, run.stored - run.start)] = memory.spare_page * size
            parts.append(flat)
        if self.wave.single:
            slot, _, token = _columns(self.wave.single)
            page, offset = np.divmod(token, size)
            parts.append(memory.table[slot, page].astype(np.int64) * size + offset)
        if self.wave.single_later:
            slot, loop, token = _columns(self.wave.single_later)
            page, offset = np.divmod(token % memory.shape.window, size)
            parts.append(memory.rings[slot, loop - 1, page].astype(np.int64) * size + offset)
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def _global_rows(self, single: list[Run]) -> PagedRows:
        slot = np.array([run.slot for run in single], dtype=np.int32)
        order = np.argsort(slot, kind="stable").astype(np.int32)
        table, count = np.unique(slot, return_counts=True)
        length = np.array([run.stop for run in single], dtype=np.int32)
        return self._paged_rows(self.memory.table, order, count, table, length[order])

    def _local_rows(self) -> PagedRows:
        runs, memory = self.wave.single_later, self.memory
        later = memory.rings.shape[1]
        table = np.array([run.slot * later + run.loop - 1 for run in runs], dtype=np.int32)
        length = np.array([min(r.stop, memory.shape.window) for r in runs], dtype=np.int32)
        order = np.arange(len(runs), dtype=np.int32)
        rings = memory.rings.reshape(-1, memory.shape.ring_pages)
        return self._paged_rows(rings, order, np.ones(len(runs), dtype=np.int32), table, length)

    def _paged_rows(
        self,
        pages: np.ndarray,
        order: np.ndarray,
        count: np.ndarray,
        table: np.ndarray,
        length: np.ndarray,
    ) -> PagedRows:
        device = self.memory.shape.device
        offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
        tensors = [torch.from_numpy(x).to(device) for x in (pages, order, offsets, table, length)]
        return PagedRows(
            table_BP=tensors[0],
            order_M=tensors[1],
            group_offsets=tensors[2],
            group_table=tensors[3],
            length_M=tensors[4],
            largest_group=int(count.max()),
            longest=int(length.max()),
        )

    @property
    def decoding(self) -> bool:
        """Whether all rows are single tokens."""
        return not (self.wave.ahead or self.wave.behind)

    def tensors(self) -> list[Tensor]:
        """Everything that differs between two steps of single tokens of one shape."""
        paged = [rows for rows in (self._global, self._local) if rows is not None]
        return [self._write_M, *(x for rows in paged for x in rows.tensors())]

    def bounds(self) -> tuple[int, ...]:
        """Numbers that must agree where `tensors` are exchanged."""
        largest = 0 if self._global is None else self._global.largest_group
        return (largest, len(self.wave.single), len(self.wave.single_later))

    def over(self, tensors: list[Tensor]) -> "WaveKV":
        """The same view over other `tensors` of the same shapes."""
        twin = copy(self)
        left = iter(tensors)
        twin._write_M = next(left)
        twin._global = None if self._global is None else self._global.over(left)
        twin._local = None if self._local is None else self._local.over(left)
        return twin

    def write(self, layer: int, k_NGK: Tensor, v_NGK: Tensor) -> None:
        """See `KVView.write`. Later loops' chunks keep what their own rows still need aside."""
        places = self.wave.places[layer]
        bulk = places.later + len(self.wave.single_later)
        for pool, x_NGK in zip(self.memory.flat(layer), (k_NGK, v_NGK), strict=True):
            pool.index_copy_(0, self._write_M, x_NGK[:bulk])
        for run, at, stop in places.behind:
            if stop > at:
                self._own[run] = self._extend(layer, run, k_NGK[at:stop], v_NGK[at:stop])

    def _extend(self, layer: int, run: Run, k_TGK: Tensor, v_TGK: Tensor) -> tuple[Tensor, Tensor]:
        """The window's last keys before the new ones; then the newest W go into the ring."""
        memory, window = self.memory, self.memory.shape.window
        first = run.first(layer)
        low = 0 if run.lows is None else max(0, run.lows[layer])
        past = memory.ring_slots(run.slot, run.loop, max(low, first - window + 1), first)
        kept = min(window, run.stop - first)
        new = memory.ring_slots(run.slot, run.loop, run.stop - kept, run.stop)
        extended = []
        for pool, x_TGK in zip(memory.flat(layer), (k_TGK, v_TGK), strict=True):
            extended.append(torch.cat([pool[past], x_TGK]) if len(past) else x_TGK)
            pool.index_copy_(0, new, x_TGK[len(x_TGK) - kept :])
        return extended[0], extended[1]

    def attend_global(self, layer: int, q_NHK: Tensor) -> Tensor:
        """See `KVView.attend_global`."""
        places = self.wave.places[layer + 1]
        y_NHK = torch.empty_like(q_NHK)
        if self._global is not None:
            rows = slice(places.single, places.later + len(self.wave.single_later))
            k_pool, v_pool = self.memory.pool[layer]
            paged_attention(q_NHK[rows], k_pool, v_pool, self._global, y_NHK[rows])
        seen: dict[int, tuple[Tensor, Tensor]] = {}
        for run, at, stop in (*places.ahead, *places.behind):
            if stop > at:
                if run.slot not in seen:
                    seen[run.slot] = self.memory.tokens(layer, run.slot, self._longest(run.slot))
                y_NHK[at:stop] = self._attend_chunk(q_NHK[at:stop], seen[run.slot], run)
        return y_NHK

    def _longest(self, slot: int) -> int:
        chunks = (*self.wave.ahead, *self.wave.behind)
        return max(run.stop for run in chunks if run.slot == slot)

    def _attend_chunk(self, q_THK: Tensor, kv: tuple[Tensor, Tensor], run: Run) -> Tensor:
        """A chunk's surviving rows, the last of the run, over all keys up to their own."""
        k_BSGK, v_BSGK = (x[:, : run.stop] for x in kv)
        T, S = len(q_THK), run.stop
        mask_BTS = None if T in (1, S) else self._causal(T, S)
        y_BTHK = self.memory.backend.attend(
            q_THK[None], k_BSGK, v_BSGK, mask_BTS=mask_BTS, causal=1 < T == S
        )
        return y_BTHK[0]

    def _causal(self, T: int, S: int) -> Tensor:
        """The last T of S tokens, each over all up to itself: bool [1, T, S]."""
        if (T, S) not in self._masks:
            token_S = torch.arange(S, device=self.memory.shape.device)
            self._masks[T, S] = window_mask(token_S[S - T :], token_S, S)[None]
        return self._masks[T, S]

    def attend_local(self, layer: int, q_MHK: Tensor) -> Tensor:
        """See `KVView.attend_local`."""
        places = self.wave.places[layer + 1]
        y_MHK = torch.empty_like(q_MHK)
        if self._local is not None:
            rows = slice(0, len(self.wave.single_later))
            k_pool, v_pool = self.memory.pool[layer]
            paged_attention(q_MHK[rows], k_pool, v_pool, self._local, y_MHK[rows])
        for run, begin, end in places.behind:
            if end > begin:
                k_SGK, v_SGK = self._own.pop(run)
                at, stop = begin - places.later, end - places.later
                y_MHK[at:stop] = window_attention(
                    self.memory.backend,
                    q_MHK[None, at:stop],
                    k_SGK[None],
                    v_SGK[None],
                    self.memory.shape.window,
                )[0]
        return y_MHK


def _columns(runs: Sequence[Run]) -> np.ndarray:
    """Slots, loops and tokens of single-token runs: [3, runs]."""
    return np.array([(run.slot, run.loop, run.start) for run in runs]).T
