"""The prefix index: longest match, snapshots, and what goes first when memory runs out."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loopcoder.cache.pages import PagePool
from loopcoder.cache.prefix import PrefixIndex, Snapshot

Tokens = tuple[int, ...]
TEXTS = st.lists(st.integers(0, 1), min_size=0, max_size=11).map(tuple)


class Prefixes(RuleBasedStateMachine):
    """Against a dictionary of what was inserted and not yet evicted."""

    @initialize(page_size=st.integers(1, 4))
    def begin(self, page_size: int) -> None:
        self.size = page_size
        self.pool = PagePool(60)
        self.index = PrefixIndex(self.pool, page_size)
        self.pages: dict[Tokens, int] = {}  # page by the prefix that it ends
        self.snapshots: dict[tuple[Tokens, int], Snapshot] = {}
        self.held: list[list[int]] = []

    def _room(self, number: int) -> list[int]:
        if self.pool.available < number:
            for pages in self.held:
                self.pool.release(pages)
            self.held = []
        if self.pool.free < number:
            self.index.reclaim(number)
            self._forget_evicted()
        return self.pool.take(number)

    def _forget_evicted(self) -> None:
        there = {page for pages in self.index.holders() for page in pages}
        self.pages = {text: page for text, page in self.pages.items() if page in there}
        self.snapshots = {
            key: kept for key, kept in self.snapshots.items() if set(kept.pages) <= there
        }

    @rule(text=TEXTS)
    def insert(self, text: Tokens) -> None:
        given = self._room(len(text) // self.size + 1)
        pages = self.index.insert(text, given)
        assert pages[-1] == given[-1], "a page that is not full stays the caller's"
        for number, page in enumerate(pages[:-1], 1):
            assert page == self.pages.setdefault(text[: number * self.size], page)
        self.held.append(pages)

    @rule(text=TEXTS.filter(bool), loops=st.integers(2, 3))
    def keep(self, text: Tokens, loops: int) -> None:
        self.insert(text)
        pages = self._room(loops)
        kept = Snapshot(
            length=len(text), loops=loops, rings=[[p] for p in pages[1:]], partial=pages[:1]
        )
        if any(text[: n * self.size] not in self.pages for n in range(1, len(text) // self.size)):
            self.pool.release(pages)  # its pages were evicted to make room
            return
        if self.index.keep(text, kept):
            assert (text, loops) not in self.snapshots
            self.snapshots[text, loops] = kept
        else:
            assert (text, loops) in self.snapshots
            self.pool.release(pages)

    @rule(text=TEXTS, loops=st.integers(1, 3), data=st.data())
    def match(self, text: Tokens, loops: int, data: st.DataObject) -> None:
        limit = data.draw(st.integers(0, len(text)))
        found = self.index.match(text, loops, limit)
        expected: list[int] = []
        while (end := (len(expected) + 1) * self.size) <= limit and text[:end] in self.pages:
            expected.append(self.pages[text[:end]])
        assert found.pages == expected
        known = [
            kept
            for (start, count), kept in self.snapshots.items()
            if count == loops and len(start) <= limit and text[: len(start)] == start
        ]
        longest = max(known, key=lambda kept: kept.length, default=None)
        assert found.snapshot is longest
        assert self.index.has(text[:limit], loops) == ((text[:limit], loops) in self.snapshots)

    @rule()
    def let_go(self) -> None:
        for pages in self.held:
            self.pool.release(pages)
        self.held = []

    @rule(number=st.integers(0, 20))
    def reclaim(self, number: int) -> None:
        number = min(number, self.pool.available)
        self.index.reclaim(number)
        assert self.pool.free >= number
        self._forget_evicted()
        assert all(
            text[: -self.size] in self.pages or len(text) == self.size for text in self.pages
        ), "a page went before those that follow it"

    @rule()
    def clear(self) -> None:
        self.index.clear()
        assert self.pool.reclaimable == 0
        self._forget_evicted()

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "pool"):
            self.index.check_integrity()
            self.pool.check_integrity([*self.held, *self.index.holders()])
            indexed = sum(len(pages) for pages in self.index.holders())
            kept = sum(len(kept.pages) for kept in self.snapshots.values())
            assert indexed == len(self.pages) + kept


Prefixes.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestPrefixes = Prefixes.TestCase


def _index(pages: int = 20) -> PrefixIndex:
    return PrefixIndex(PagePool(pages), 2)


def _learn(index: PrefixIndex, tokens: list[int], *, use: bool = False) -> list[int]:
    """Insert a prompt whose owner then goes (unless still in `use`)."""
    pages = index.insert(tokens, index.pool.take(len(tokens) // 2))
    if not use:
        index.pool.release(pages)
    return pages


def _known(index: PrefixIndex, tokens: list[int]) -> int:
    """Pages known of a prompt, found without changing the order of use."""
    order = list(index._used)
    known = len(index.match(tokens, 1, len(tokens)).pages)
    for entry in order:
        index._used.move_to_end(entry)
    return known


def test_the_least_recently_used_goes_first() -> None:
    index = _index(pages=6)
    texts = [[n, n] for n in range(3)]
    for text in texts:
        _learn(index, text)
    index.match(texts[0], 1, 2)  # used again: now 1 is the oldest
    for gone in ([], [1], [1, 2], [1, 2, 0]):
        index.reclaim(3 + len(gone))
        assert [n for n in range(3) if not _known(index, texts[n])] == sorted(gone)


def test_children_go_before_their_parents() -> None:
    index = _index(pages=3)
    text = [0, 0, 1, 1, 2, 2]
    _learn(index, text)
    for free in range(4):
        index.reclaim(free)
        assert _known(index, text) == 3 - free


def test_a_page_in_use_stays_with_its_parents() -> None:
    index = _index(pages=5)
    used = _learn(index, [0, 0, 1, 1], use=True)
    _learn(index, [0, 0, 2, 2, 3, 3])
    index.clear()
    assert _known(index, [0, 0, 1, 1]) == 2
    assert _known(index, [0, 0, 2, 2]) == 1
    index.pool.release(used)
    index.clear()
    assert index.pool.free == 5


def test_a_snapshot_goes_by_its_own_age() -> None:
    index = _index(pages=6)
    _learn(index, [0, 0])
    kept = Snapshot(length=3, loops=2, rings=[index.pool.take(1)], partial=index.pool.take(1))
    assert index.keep([0, 0, 5], kept)
    _learn(index, [1, 1])
    assert index.match([0, 0, 5, 6], 2, 3).snapshot is kept
    index.reclaim(3)  # [1, 1] is older now
    assert _known(index, [1, 1]) == 0
    index.reclaim(4)  # two pages at once
    assert index.match([0, 0, 5, 6], 2, 3).snapshot is None
    assert _known(index, [0, 0]) == 1


@pytest.mark.parametrize("limit", range(8))
def test_a_match_stays_below_the_limit(limit: int) -> None:
    index = _index()
    text = [0, 1, 2, 3, 4, 5, 6]
    _learn(index, text)
    for length in (1, 4, 5):
        kept = Snapshot(length=length, loops=2, rings=[index.pool.take(1)])
        assert index.keep(text[:length], kept)
    found = index.match(text, 2, limit)
    assert len(found.pages) == min(limit // 2, 3)
    best = max((n for n in (1, 4, 5) if n <= limit), default=0)
    assert (found.snapshot.length if found.snapshot else 0) == best


def test_a_snapshot_is_for_its_own_loop_count() -> None:
    index = _index()
    kept = Snapshot(length=1, loops=3, rings=[index.pool.take(1), index.pool.take(1)])
    assert index.keep([7], kept)
    assert [bool(index.match([7, 8], loops, 2).snapshot) for loops in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        False,
    ]
