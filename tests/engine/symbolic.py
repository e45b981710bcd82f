"""An engine without a model: every row knows what it is made of, so that a wrong input is seen.

A key, a value and a handed-on state are the name of the prefix that they were computed from, or
None where anything that entered their computation was missing or stale. Pages, copies, rings and
states are moved exactly as the engine moves them; a chosen token follows from its prefix.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from loopcoder.cache.ledger import Ledger
from loopcoder.engine.scheduler import Limits, Scheduler
from loopcoder.engine.sequence import Request, Sequence
from loopcoder.engine.wavefront import Span, Wavefront
from loopcoder.model.config import ModelConfig
from loopcoder.types import SamplingParams

VOCABULARY = 3  # so few that prompts share beginnings by themselves


def tiny_config(layers: int, reach: int) -> ModelConfig:
    """A window of `reach` + 1 keys; widths do not matter here."""
    return ModelConfig(
        vocab_size=VOCABULARY,
        hidden_size=2,
        intermediate_size=2,
        num_hidden_layers=layers,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=2,
        plt_window_size=(reach, 0),
    )


def request(
    name: str, tokens: list[int], *, loops: int, limit: int, n: int = 1, whole: bool = False
) -> Request:
    """A request with its loop count settled, as the prompt reader makes them."""
    params = SamplingParams(
        max_tokens=limit, loops=loops, n=n, prompt_logprobs=0 if whole else None
    )
    return Request(
        request_id=name, prompt=None, prompt_token_ids=tokens, params=params, limit=limit
    )


class FakeClock:
    """Every look at it is a second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


class Names:
    """One number for each prefix ever seen."""

    def __init__(self) -> None:
        self._number: dict[tuple[int, int], int] = {}
        self._read: dict[Sequence, list[int]] = {}

    def of(self, sequence: Sequence) -> list[int]:
        """A number for the prefix up to each token of a sequence."""
        names = self._read.setdefault(sequence, [])
        for token in sequence.tokens[len(names) :]:
            key = (names[-1] if names else 0, token)
            names.append(self._number.setdefault(key, len(self._number) + 1))
        return names

    def next_token(self, sequence: Sequence) -> int:
        """What the model would choose: the same for the same prefix and loop count."""
        return crc32(bytes([sequence.loops, *sequence.tokens])) % VOCABULARY


class States:
    """The scheduler's keeper of handed-on states: what was kept, by sequence slot and loop."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], dict[int, int | None]] = {}

    def admit(self, slot: int, start: int, states: list[object]) -> None:
        self.kept = {key: value for key, value in self.kept.items() if key[0] != slot}
        for loop, state in enumerate(states):
            assert state is None or isinstance(state, int)
            self.kept[slot, loop] = {start - 1: state}

    def state(self, slot: int, loop: int, token: int) -> object:
        return self.kept[slot, loop][token]

    def states(self, slot: int, loops: int) -> list[object]:
        return [kept[max(kept)] for kept in (self.kept[slot, loop] for loop in range(loops - 1))]


@dataclass(eq=False)
class Rows:
    """A span under way: which of its tokens go on, and whether each is still exact."""

    span: Span
    names: list[int]
    lows: tuple[int, ...] | None
    exact: dict[int, bool]
    window: dict[int, int | None] = field(default_factory=dict)

    def enter(self, layer: int) -> None:
        """Drop the tokens that do not enter `layer`."""
        if self.lows is not None:
            low = self.lows[layer]
            self.exact = {t: exact for t, exact in self.exact.items() if t >= low}


class SymbolicEngine:
    """A scheduler driven step by step; `on_finish` is called with each sequence that ends."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        pages: int,
        page_size: int,
        slots: int,
        rows: int,
        tail: bool = True,
        serial: bool = False,
        reuse: bool = True,
    ) -> None:
        self.config = config
        self.page_size = page_size
        self.clock = FakeClock()
        self.states = States()
        self.names = Names()
        ring_pages = -(-config.window // page_size)
        self.scheduler = Scheduler(
            Wavefront(config, tail=tail, serial=serial),
            Ledger(pages, page_size, ring_pages, reuse=reuse),
            self.states,
            Limits(sequences=slots, rows=rows),
            self.clock,
        )
        empty = [[None] * config.num_hidden_layers for _ in range(page_size)]
        self.memory: list[list[list[Any]]] = [[list(c) for c in empty] for _ in range(pages)]
        self._admitted: dict[Sequence, Any] = {}
        self._ran: dict[Sequence, set[tuple[int, int]]] = {}
        self.outputs: dict[tuple[str, int], list[int]] = {}
        self.finished: list[Sequence] = []
        self.on_finish: Callable[[Sequence], None] = self.finished.append

    @property
    def busy(self) -> bool:
        return bool(self.scheduler.running or self.scheduler.waiting)

    def step(self) -> list[Span]:
        """What `Engine.step` does, with every reading checked."""
        before = list(self.scheduler.running)
        spans = self.scheduler.schedule()
        self._check_plan(spans, before)
        self._copy()
        self._poison()
        self._forward(spans)
        for ready in self.scheduler.advance(spans):
            self._choose(ready.sequence)
        self.scheduler.check_integrity()
        return spans

    def _check_plan(self, spans: list[Span], before: list[Sequence]) -> None:
        scheduler = self.scheduler
        assert spans or not self.busy, "there is work and nothing runs"
        assert sum(span.rows for span in spans) <= scheduler.limits.rows
        assert all(span.sequence in scheduler.running and span.rows > 0 for span in spans)
        waiting = [s.order for s in scheduler.waiting]
        assert waiting == sorted(waiting), "the queue is out of order"
        stayed = [s.order for s in before if s in scheduler.running]
        preempted = [s.order for s in before if s not in scheduler.running]
        assert not preempted or not stayed or min(preempted) > max(stayed), "not the latest went"

    def _copy(self) -> None:
        for source, target in self.scheduler.ledger.copies:
            self.memory[target] = [list(cell) for cell in self.memory[source]]
        self.scheduler.ledger.copies.clear()

    def _poison(self) -> None:
        """What lies in free pages must not matter."""
        for page in self.scheduler.ledger.pool._free:
            self.memory[page] = [[None] * self.config.num_hidden_layers for _ in self.memory[page]]

    def _forward(self, spans: list[Span]) -> None:
        batch = [self._rows(span) for span in spans]
        for layer in range(self.config.num_hidden_layers):
            for rows in batch:
                rows.enter(layer)
                self._write(rows, layer)
            for rows in batch:
                rows.enter(layer + 1)
                self._attend(rows, layer)
        for rows in batch:
            slot, loop = rows.span.sequence.slot, rows.span.loop
            kept = self.states.kept.setdefault((slot, loop), {})
            for token, exact in rows.exact.items():
                kept[token] = rows.names[token] if exact else None

    def _rows(self, span: Span) -> Rows:
        sequence, names = span.sequence, self.names.of(span.sequence)
        if self._admitted.get(sequence) is not sequence.holding:
            self._admitted[sequence] = sequence.holding
            self._ran[sequence] = set()
        ran = self._ran[sequence]
        exact = {}
        for token in range(span.start, span.stop):
            assert (token, span.loop) not in ran, "a row ran twice"
            ran.add((token, span.loop))
            exact[token] = True
            if span.loop and token:
                handed = self.states.kept.get((sequence.slot, span.loop - 1), {})
                exact[token] = handed.get(token - 1) == names[token - 1]
        return Rows(span, names, self.scheduler.wavefront.lows(span), exact)

    def _write(self, rows: Rows, layer: int) -> None:
        holding, loop = rows.span.sequence.holding, rows.span.loop
        assert holding is not None
        if loop == 0:
            for token, exact in rows.exact.items():
                if token >= holding.stored:
                    cell = self._cell(holding.pages, token)
                    cell[layer] = (0, rows.names[token]) if exact else None
            return
        if not rows.exact:
            return
        window, ring = self.config.window, holding.rings[loop - 1]
        first, stop = min(rows.exact), rows.span.stop
        past = range(max(0, first - window + 1), first)
        rows.window = {token: self._cell(ring, token % window)[layer] for token in past}
        for token, exact in rows.exact.items():
            rows.window[token] = (loop, rows.names[token]) if exact else None
        for token in range(max(first, stop - window), stop):
            self._cell(ring, token % window)[layer] = rows.window[token]

    def _attend(self, rows: Rows, layer: int) -> None:
        span, names = rows.span, rows.names
        assert span.sequence.holding is not None
        pages = span.sequence.holding.pages
        known = 0  # loop 1's keys are right below this token
        while known < span.stop and self._cell(pages, known)[layer] == (0, names[known]):
            known += 1
        for token in rows.exact:
            rows.exact[token] &= token < known
            if span.loop:
                seen = range(max(0, token - self.config.window + 1), token + 1)
                right = all(rows.window.get(s) == (span.loop, names[s]) for s in seen)
                rows.exact[token] &= right

    def _cell(self, pages: list[int], place: int) -> list[Any]:
        page, offset = divmod(place, self.page_size)
        return self.memory[pages[page]][offset]

    def _choose(self, sequence: Sequence) -> None:
        names, last = self.names.of(sequence), len(sequence.tokens) - 1
        kept = self.states.kept
        for loop in range(sequence.loops):
            # A fork has the states of loops 1..R-1; its source's last loop was checked.
            if (sequence.slot, loop) in kept and last in kept[sequence.slot, loop]:
                state = kept[sequence.slot, loop][last]
                assert state == names[last], f"loop {loop + 1} is not exact at token {last}"
            else:
                assert sequence.index, "a state is missing"
                assert loop == sequence.loops - 1, "a fork's state is missing"
        token = self.names.next_token(sequence)
        self.scheduler.accept(sequence, token)
        self.outputs.setdefault(sequence.name, []).append(token)
        if sequence.generated == sequence.request.limit:
            self.scheduler.finish(sequence)
            self.on_finish(sequence)

    def check_empty(self) -> None:
        """Nothing is left of finished and aborted requests but what may be reused."""
        pool = self.scheduler.ledger.pool
        assert not self.busy
        assert pool.available == pool.count
        assert len(self.scheduler._slots) == self.scheduler.limits.sequences
        self.scheduler.distrust()
        assert pool.free == pool.count
        self.scheduler.check_integrity()
