"""Who owns which pages, with what each page holds written beside it.

`contents` says of every page which tokens of which loop it was filled with; copies are applied in
their order. What a sequence is given must hold what it is said to hold.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loopcoder.cache.ledger import Holding, Ledger
from loopcoder.cache.prefix import Snapshot

Tokens = tuple[int, ...]
TEXTS = st.lists(st.integers(0, 1), min_size=1, max_size=14).map(tuple)
PAGES = 40


class Books(RuleBasedStateMachine):
    """Sequences that have run all their tokens; `reach` is how far back their later loops look."""

    @initialize(page_size=st.integers(1, 4), ring_pages=st.integers(1, 2), reach=st.integers(1, 9))
    def begin(self, page_size: int, ring_pages: int, reach: int) -> None:
        self.ledger = Ledger(PAGES, page_size, ring_pages)
        self.size, self.reach = page_size, reach
        self.contents: dict[int, object] = {}
        self.live: list[tuple[Holding, Tokens]] = []

    def _copy(self) -> None:
        for source, target in self.ledger.copies:
            self.contents[target] = self.contents.get(source)
        self.ledger.copies.clear()

    def _fill(self, holding: Holding, text: Tokens) -> None:
        """Loop 1 writes what is not stored, later loops their windows."""
        for number, page in enumerate(holding.pages):
            end = min((number + 1) * self.size, len(text))
            if number * self.size < end > holding.stored:
                self.contents[page] = text[:end]
        for loop, ring in enumerate(holding.rings):
            for place, page in enumerate(ring):
                self.contents[page] = (loop, place, text)

    @rule(text=TEXTS, loops=st.integers(1, 3), whole=st.booleans(), spare=st.integers(0, 2))
    def admit(self, text: Tokens, loops: int, whole: bool, spare: int) -> None:
        ledger, reach = self.ledger, 0 if loops == 1 else self.reach
        room = ledger.pool.available
        asked, hit = ledger.asked, ledger.hit
        holding = ledger.admit(text, loops, reach, whole=whole, spare=spare)
        self._copy()
        if holding is None:
            assert room - ledger.need(len(text), loops) < spare
            assert (ledger.asked, ledger.hit) == (asked, hit)
            return
        assert len(holding.pages) == -(-len(text) // self.size)
        assert [len(ring) for ring in holding.rings] == [ledger.ring_pages] * (loops - 1)
        assert ledger.pool.available >= spare
        assert holding.start < len(text)
        if whole:
            assert (holding.start, holding.stored) == (0, 0)
        else:
            assert (ledger.asked, ledger.hit) == (asked + len(text), hit + holding.start)
        self._check_start(holding, text, loops, reach)
        self._fill(holding, text)
        self.live.append((holding, text))

    def _check_start(self, holding: Holding, text: Tokens, loops: int, reach: int) -> None:
        """Known keys are there, and the later loops have a snapshot or room to start afresh."""
        assert holding.start <= holding.stored < len(text)
        for number, page in enumerate(holding.pages):
            end = min((number + 1) * self.size, holding.stored)
            if number * self.size < end:
                assert self.contents[page][:end] == text[:end]
        if holding.resumed:
            rings = [
                [(r, p, text[: holding.start]) for p in range(self.ledger.ring_pages)]
                for r in range(loops - 1)
            ]
            assert [[self.contents[page] for page in ring] for ring in holding.rings] == rings
            assert holding.states == [f"h{text[: holding.start]}"] * (loops - 1)
        elif holding.start:
            assert holding.start <= len(text) - reach
        if holding.branch is not None:
            assert loops > 1
            assert holding.start <= holding.branch == holding.stored < len(text)
            assert holding.resumed or holding.start <= max(0, holding.branch - reach)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), more=TEXTS)
    def grow(self, data: st.DataObject, more: Tokens) -> None:
        index = data.draw(st.integers(0, len(self.live) - 1))
        holding, text = self.live[index]
        pages = list(holding.pages)
        number = -(-len(text + more) // self.size) - len(pages)
        fits = self.ledger.pool.available >= number
        assert self.ledger.grow(holding, len(text + more)) == fits
        assert holding.pages[: len(pages)] == pages
        if fits:
            self._fill(holding, text + more)
            self.live[index] = (holding, text + more)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        holding, text = data.draw(st.sampled_from(self.live))
        twin = self.ledger.fork(holding, len(text))
        self._copy()
        if twin is None:
            assert self.ledger.pool.available <= sum(map(len, holding.rings))
            return
        full = len(text) // self.size
        assert twin.pages[:full] == holding.pages[:full]
        owned = [page for ring in twin.rings for page in ring] + twin.pages[full:]
        theirs = [page for ring in holding.rings for page in ring] + holding.pages[full:]
        assert not set(owned) & set(theirs)
        assert [self.contents[p] for p in owned] == [self.contents[p] for p in theirs]
        self.live.append((twin, text))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def learn(self, data: st.DataObject) -> None:
        holding, text = data.draw(st.sampled_from(self.live))
        self.ledger.learn(holding, text)
        for number in range(len(text) // self.size):
            assert self.contents[holding.pages[number]] == text[: (number + 1) * self.size]

    @precondition(lambda self: self.live)
    @rule(data=st.data(), spare=st.integers(0, 3), complete=st.booleans())
    def draft(self, data: st.DataObject, spare: int, complete: bool) -> None:
        """A snapshot at the end, while the sequence lives on."""
        holding, text = data.draw(st.sampled_from(self.live))
        drafts = list(holding.drafts)
        draft = self.ledger.draft(holding, text, spare)
        assert draft is None or self.ledger.pool.available >= spare
        assert holding.drafts == drafts + ([] if draft is None else [draft])
        if draft is not None and complete:
            for later in range(len(holding.rings)):
                draft.snapshot.states[later] = f"h{text}"
                self.ledger.draft_ring(holding, draft, later)
            self.ledger.finish_draft(holding, draft, text)
            self._copy()
            assert self.ledger.index.has(text, len(holding.rings) + 1)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), how=st.sampled_from(["level", "not level", "release"]))
    def retire(self, data: st.DataObject, how: str) -> None:
        index = data.draw(st.integers(0, len(self.live) - 1))
        holding, text = self.live.pop(index)
        loops = len(holding.rings) + 1
        if how == "release":
            self.ledger.release(holding)
            return
        states = [f"h{text}"] * (loops - 1) if how == "level" else None
        self.ledger.retire(holding, text, states)
        known = self.ledger.index.match(text, loops, len(text))
        assert len(known.pages) == len(text) // self.size
        if states:
            assert known.snapshot is not None
            assert known.snapshot.length == len(text)

    @rule()
    def clear(self) -> None:
        self.ledger.index.clear()

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.check_integrity(holding for holding, _ in self.live)
            assert not self.ledger.copies or self.live

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            for holding, _ in self.live:
                self.ledger.release(holding)
            self.ledger.index.clear()
            assert self.ledger.pool.free == PAGES


Books.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestBooks = Books.TestCase


def _run(ledger: Ledger, text: list[int], loops: int, reach: int = 2) -> Holding:
    holding = ledger.admit(text, loops, reach if loops > 1 else 0, whole=False, spare=0)
    assert holding is not None
    return holding


def test_one_loop_starts_where_the_known_pages_end() -> None:
    ledger = Ledger(20, 4, 1)
    ledger.retire(_run(ledger, list(range(10)), 1), list(range(10)), [])
    again = _run(ledger, [*range(10), 11], 1)
    assert (again.start, again.stored, again.branch) == (8, 8, None)
    assert (ledger.asked, ledger.hit) == (21, 8)


def test_two_loops_go_on_from_the_last_token_of_a_conversation() -> None:
    """The states at its end were kept, and the page that is not full with them."""
    ledger = Ledger(20, 4, 1)
    text = list(range(10))
    ledger.retire(_run(ledger, text, 2), text, ["h"])
    more = _run(ledger, [*text, 11, 12], 2)
    assert (more.start, more.stored, more.resumed, more.branch) == (10, 10, True, None)
    assert more.states == ["h"]
    assert len(ledger.copies) == 2  # the ring, and the partial page


def test_two_loops_run_their_tail_again_where_prompts_part() -> None:
    """No snapshot stands at the branch: loop 1 goes back by its reach, and the branch is named."""
    ledger = Ledger(40, 4, 1)
    text = list(range(40))
    ledger.retire(_run(ledger, text, 2, reach=6), text, ["h"])
    other = _run(ledger, [*range(32), 99], 2, reach=6)
    assert (other.start, other.stored, other.branch, other.resumed) == (26, 32, 32, False)
    far = _run(ledger, [*range(32), *[99] * 6], 2, reach=6)
    assert (far.start, far.branch) == (32, None)  # the tail lies behind the known pages


def test_nothing_is_kept_without_reuse() -> None:
    ledger = Ledger(20, 4, 1, reuse=False)
    text = list(range(10))
    holding = _run(ledger, text, 2)
    assert ledger.draft(holding, text, 0) is None
    ledger.learn(holding, text)
    ledger.retire(holding, text, ["h"])
    assert ledger.pool.free == 20
    assert _run(ledger, text, 2).start == 0
    assert (ledger.asked, ledger.hit) == (0, 0)


@pytest.mark.parametrize("spare", range(4))
def test_spare_pages_stay_available(spare: int) -> None:
    ledger = Ledger(6, 4, 1)
    holding = ledger.admit(list(range(12)), 2, 2, whole=False, spare=spare)
    assert (holding is None) == (spare > 2)


def test_a_prompt_that_just_fits_gives_up_the_snapshot_it_would_start_from() -> None:
    ledger = Ledger(4, 4, 1)
    text = list(range(6))
    ledger.retire(_run(ledger, text, 2), text, ["h"])
    longer = ledger.admit([*text, *range(6)], 2, 2, whole=False, spare=0)
    assert longer is not None
    assert not longer.resumed
    ledger.check_integrity([longer])


def test_a_second_snapshot_of_the_same_prompt_is_not_kept() -> None:
    ledger = Ledger(30, 4, 1)
    text = list(range(6))
    holdings = [_run(ledger, text, 2) for _ in range(2)]
    for holding in holdings:
        ledger.retire(holding, text, ["h"])
    snapshots = [s for s in ledger.index._root.snapshots.values() if isinstance(s, Snapshot)]
    held = {page for pages in ledger.index.holders() for page in pages}
    assert not snapshots
    assert len(held) == 3  # a full page, a ring and a partial page, once
    assert ledger.pool.free == 27
