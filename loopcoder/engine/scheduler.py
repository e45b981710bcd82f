"""Who runs in the next step: admission, fairness, growth and preemption. No torch.

First come, first served. Sequences that decode go first, those served longest ago before others,
and leave part of the step's rows to prompts; prompts share what is left in order of arrival.
"""

import time
from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from loopcoder.cache.ledger import Draft, Ledger
from loopcoder.engine.sequence import Request, Sequence
from loopcoder.engine.wavefront import Span, Wavefront
from loopcoder.errors import RequestError

PROMPT_SHARE = 4  # a quarter of a step's rows is for prompts, when there are any


class StateKeeper(Protocol):
    """Keeps what loops hand on, where the scheduler only decides what to do with it."""

    def admit(self, slot: int, start: int, states: list[object]) -> None:
        """A sequence takes over `slot`, with the states [R - 1] of token `start` - 1, or none."""
        ...

    def state(self, slot: int, loop: int, token: int) -> object:
        """What `loop` (0-based) handed on at `token`, which it has just run."""
        ...

    def states(self, slot: int, loops: int) -> list[object]:
        """What loops 1..R-1 handed on at the newest token."""
        ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """At most `sequences` running together, and `rows` (token, loop) pairs in a step."""

    sequences: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A sequence whose next token can be chosen from the newest row of `source`."""

    sequence: Sequence
    source: Sequence


class Scheduler:
    """Decides what runs; moves no tensors. The order of calls: `schedule`, `advance`, `accept`."""

    def __init__(
        self,
        wavefront: Wavefront,
        ledger: Ledger,
        keeper: StateKeeper,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wavefront = wavefront
        self.ledger = ledger
        self.keeper = keeper
        self.limits = limits
        self.clock = clock
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.steps = 0
        self.preemptions = 0
        self._arrivals = count()
        self._slots = list(range(limits.sequences - 1, -1, -1))

    def add(self, request: Request) -> Sequence:
        """Queue a request. Raises `RequestError` at once if it could never run."""
        self.check(request)
        sequence = Sequence.of(request)
        sequence.order = (next(self._arrivals), 0)
        sequence.times.arrived = self.clock()
        self.waiting.append(sequence)
        return sequence

    def check(self, request: Request) -> None:
        """Raise `RequestError`, with the numbers, for a request that could never run."""
        pages, tokens = self.ledger.pool.count, len(request.prompt_token_ids) + request.limit
        need = self.ledger.need(tokens, request.loops)
        if need > pages:
            size = self.ledger.page_size
            rings = (request.loops - 1) * self.ledger.ring_pages
            raise RequestError(
                f"the request can never fit: {tokens} tokens (prompt and max_tokens) at "
                f"{request.loops} loops need {need} pages of {size} tokens ({rings} of them for "
                f"the later loops' windows), and there are {pages}; shorten it, or give more "
                "kv_cache_memory_bytes"
            )
        if request.loops > self.limits.rows:
            raise RequestError(
                f"loops is {request.loops}, and a step has {self.limits.rows} rows; lower loops "
                "or raise max_num_batched_tokens"
            )

    def schedule(self) -> list[Span]:
        """The spans of the next step; empty when nothing is left to do."""
        self._admit()
        prompts = [sequence for sequence in self.running if sequence.prefilling]
        reserve = self.limits.rows // PROMPT_SHARE if prompts else 0
        left = self.limits.rows
        spans: list[Span] = []
        for sequence in sorted(self.running, key=lambda s: (s.served, s.order)):
            if sequence.prefilling or sequence not in self.running:
                continue
            preemptions = self.preemptions
            runs = self._make_room(sequence)
            if self.preemptions > preemptions:  # the rows of those that went are free again
                spans = [span for span in spans if span.sequence.slot >= 0]
                left = self.limits.rows - sum(span.rows for span in spans)
            room = max(left - reserve, 0 if spans else sequence.loops)
            left -= self._take(spans, self.wavefront.plan(sequence, room) if runs else [])
        for sequence in prompts:
            if left > 0 and sequence in self.running:
                left -= self._take(spans, self.wavefront.plan(sequence, left))
        self.steps += bool(spans)
        return spans

    def _take(self, spans: list[Span], planned: list[Span]) -> int:
        spans += planned
        for span in planned:
            span.sequence.served = self.steps
        return sum(span.rows for span in planned)

    def _admit(self) -> None:
        while self.waiting and self._slots:
            sequence = self.waiting[0]
            reach = self.wavefront.reach(sequence.loops)
            whole = sequence.whole or not (self.wavefront.tail or sequence.loops == 1)
            holding = self.ledger.admit(
                sequence.tokens,
                sequence.loops,
                reach,
                whole=whole,
                spare=len(self.running),
                private=sequence.request.seeded,
            )
            if holding is None:
                assert self.running, "a request that fits found no room in an empty memory"
                return
            sequence.holding = holding
            later = holding.start if holding.resumed else 0
            sequence.done = [holding.start] + [later] * (sequence.loops - 1)
            branch = [] if holding.branch is None else [holding.branch]
            sequence.goals = [*branch, len(sequence.tokens)]
            self._run(self.waiting.popleft(), holding.start, holding.states)
            if sequence.times.admitted is None:
                sequence.times.admitted = self.clock()
                sequence.cached = holding.start

    def _run(self, sequence: Sequence, start: int, states: list[object]) -> None:
        sequence.slot = self._slots.pop()
        self.keeper.admit(sequence.slot, start, states)
        self.running.append(sequence)
        self.running.sort(key=lambda s: s.order)

    def _make_room(self, sequence: Sequence) -> bool:
        """Memory for the newest token, at the cost of those that came last."""
        assert sequence.holding is not None
        while not self.ledger.grow(sequence.holding, len(sequence.tokens)):
            victim = self.running[-1]
            self._preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.preemptions += 1
        self._leave(sequence, keep=True)
        self._wait(sequence)

    def _wait(self, sequence: Sequence) -> None:
        """Back into the queue, in order of arrival."""
        place = bisect([each.order for each in self.waiting], sequence.order)
        self.waiting.insert(place, sequence)

    def begin_again(self, spans: Iterable[Span]) -> None:
        """A step broke off: nothing that its sequences hold can be trusted, so they start anew."""
        for sequence in {span.sequence: None for span in spans}:
            self._leave(sequence, keep=False)
            self._wait(sequence)

    def _leave(self, sequence: Sequence, *, keep: bool) -> None:
        """Give back slot and memory; with `keep`, what was computed may be found again."""
        assert sequence.holding is not None
        self.running.remove(sequence)
        run = sequence.done[0]
        if keep and sequence.generated:  # a prompt that led to no token yet may hold NaN
            level = run >= sequence.goals[-1] and all(done == run for done in sequence.done)
            states = self.keeper.states(sequence.slot, sequence.loops) if level else None
            self.ledger.retire(sequence.holding, sequence.tokens[:run], states)
        else:
            self.ledger.release(sequence.holding)
        self._slots.append(sequence.slot)
        sequence.slot, sequence.holding = -1, None

    def advance(self, spans: Iterable[Span]) -> list[Ready]:
        """Note what a step has run: snapshots are kept, and complete sequences come back."""
        touched = []
        for span in spans:
            span.sequence.done[span.loop] = span.stop
            self._keep_snapshots(span)
            if span.sequence not in touched:
                touched.append(span.sequence)
        ready = []
        for sequence in touched:
            if sequence.complete:
                if sequence.generated == 0:
                    self._prompt_is_read(sequence)
                ready += [Ready(sequence=s, source=sequence) for s in self._with_forks(sequence)]
        return ready

    def _keep_snapshots(self, span: Span) -> None:
        sequence, loop = span.sequence, span.loop
        holding = sequence.holding
        assert holding is not None
        if loop == 0:
            for goal in sequence.goals:
                if span.start < goal <= span.stop:
                    self.ledger.draft(holding, sequence.tokens[:goal], len(self.running))
        for draft in list(holding.drafts):
            if span.start < draft.length <= span.stop:
                self._fill(draft, sequence, loop)

    def _fill(self, draft: Draft, sequence: Sequence, loop: int) -> None:
        assert sequence.holding is not None
        last = sequence.loops - 1
        if loop < last:
            state = self.keeper.state(sequence.slot, loop, draft.length - 1)
            draft.snapshot.states[loop] = state
        if loop:
            self.ledger.draft_ring(sequence.holding, draft, loop - 1)
        if loop == last:
            self.ledger.finish_draft(sequence.holding, draft, sequence.tokens[: draft.length])

    def _prompt_is_read(self, sequence: Sequence) -> None:
        assert sequence.holding is not None
        sequence.whole = False
        self.ledger.learn(sequence.holding, sequence.tokens)

    def _with_forks(self, sequence: Sequence) -> list[Sequence]:
        """The sequence, and the siblings that waited for its prompt and have room now."""
        together = [sequence]
        while sequence.siblings:
            sibling = sequence.sibling()
            assert sequence.holding is not None
            twin = self.ledger.fork(sequence.holding, len(sequence.tokens)) if self._slots else None
            if twin is None:
                sibling.done, sibling.goals = [], []
                self._wait(sibling)
                continue
            sibling.holding = twin
            states = self.keeper.states(sequence.slot, sequence.loops)
            self._run(sibling, len(sequence.tokens), states)
            together.append(sibling)
        return together

    def accept(self, sequence: Sequence, token_id: int) -> None:
        """The chosen token, to be run in the next step."""
        if sequence.times.first_token is None:
            sequence.times.first_token = self.clock()
        sequence.tokens.append(token_id)

    def finish(self, sequence: Sequence, *, keep: bool = True) -> None:
        """A sequence is over: give back its memory, and keep its prefix unless told otherwise."""
        sequence.times.finished = self.clock()
        if sequence in self.running:
            self._leave(sequence, keep=keep)
        else:
            self.waiting.remove(sequence)

    def abort(self, request_id: str) -> list[Sequence]:
        """Stop every sequence of a request, wherever it stands. They are returned."""
        stopped = [s for s in (*self.running, *self.waiting) if s.name[0] == request_id]
        for sequence in stopped:
            self.finish(sequence)
        return stopped

    def distrust(self) -> None:
        """Forget all prefixes: a broken state (NaN) may have been kept among them."""
        self.ledger.index.clear()

    def check_integrity(self) -> None:
        """Assert that queues, slots and memory agree; for tests, after every step."""
        self.ledger.check_integrity(s.holding for s in self.running if s.holding)
        slots = [s.slot for s in self.running]
        assert sorted([*slots, *self._slots]) == list(range(self.limits.sequences))
        assert all(s.holding is None and s.slot < 0 for s in self.waiting)
        for s in self.running:
            assert s.holding is not None
            assert all(0 <= done <= len(s.tokens) for done in s.done)
            assert len(s.holding.pages) * self.ledger.page_size >= s.done[0]
