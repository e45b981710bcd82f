"""Who owns which pages: sequences, their rings, and what is kept for prompts to come. No torch.

Memory and policy apart: this file moves numbers; `loopcoder.cache.paged` moves keys and values.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from loopcoder.cache.pages import PagePool
from loopcoder.cache.prefix import Match, PrefixIndex, Snapshot


@dataclass(kw_only=True)
class Draft:
    """A snapshot in the making: each loop's part is added when the loop gets to `length`."""

    length: int
    snapshot: Snapshot


@dataclass(kw_only=True)
class Holding:
    """What one running sequence owns.

    `pages` hold loop 1 in order of tokens, `rings` one window of pages for each later loop.
    Keys of the first `stored` tokens were there already; loop 1 starts at token `start`.
    `resumed` says that the later loops start there too, from a snapshot's `states`.
    `branch` is a point before the end worth a snapshot: other prompts part from this one there.
    """

    pages: list[int]
    rings: list[list[int]]
    stored: int = 0
    start: int = 0
    resumed: bool = False
    states: list[object] = field(default_factory=list)
    branch: int | None = None
    drafts: list[Draft] = field(default_factory=list)
    private: bool = False  # its pages are never exchanged for others of the same tokens
    moved: bool = True  # `pages` or `rings` changed since the tensors' tables were written

    def owned(self) -> Iterator[list[int]]:
        """Every page, once for each reference."""
        yield self.pages
        yield from self.rings
        yield from (draft.snapshot.pages for draft in self.drafts)


class Ledger:
    """Allocation, growth, reuse and release. `copies` are page copies still to be made, in order.

    `ring_pages` pages hold a later loop's window. Counts prefix lookups in tokens: `asked`, `hit`.
    """

    def __init__(self, pages: int, page_size: int, ring_pages: int, *, reuse: bool = True) -> None:
        self.pool = PagePool(pages)
        self.index = PrefixIndex(self.pool, page_size)
        self.page_size = page_size
        self.ring_pages = ring_pages
        self.reuse = reuse
        self.copies: list[tuple[int, int]] = []
        self.asked = self.hit = 0

    def need(self, tokens: int, loops: int) -> int:
        """Pages that `tokens` tokens at `loops` loops take."""
        return -(-tokens // self.page_size) + (loops - 1) * self.ring_pages

    def admit(
        self,
        tokens: Sequence[int],
        loops: int,
        reach: int,
        *,
        whole: bool,
        spare: int,
        private: bool = False,
    ) -> Holding | None:
        """Room for a sequence that begins with `tokens`; None if there is not enough.

        `reach` is how many tokens before the end the later loops need loop 1's output (1 loop: 0);
        `whole` asks for every position to be computed; `private` also for pages that nobody else
        has written, from then on. `spare` pages must remain available.
        """
        if whole or private or not self.reuse:
            holding = Holding(pages=[], rings=[], private=private)
            return self._allocate(holding, len(tokens), loops, spare)
        match = self.index.match(tokens, loops, len(tokens) - 1)
        holding = self._plan(match, len(tokens), loops, reach)
        snapshot = match.snapshot if holding.resumed else None
        admitted = self._allocate(holding, len(tokens), loops, spare, snapshot)
        if admitted is None and snapshot:  # which must give up its own pages to make room
            holding = self._plan(replace(match, snapshot=None), len(tokens), loops, reach)
            admitted = self._allocate(holding, len(tokens), loops, spare)
        if admitted:
            self.asked += len(tokens)
            self.hit += admitted.start
        return admitted

    def _plan(self, match: Match, tokens: int, loops: int, reach: int) -> Holding:
        """Where to start, given what is known of a prompt."""
        stored = len(match.pages) * self.page_size
        holding = Holding(pages=match.pages, rings=[], stored=stored)
        found = match.snapshot.length if match.snapshot else 0
        lowest = min(stored, tokens - reach)
        if loops > 1 and found < stored and lowest < stored:
            # The later loops' tail begins before the known pages end, and no snapshot helps all
            # the way: run the tail of that point too, and the next such prompt finds a snapshot.
            holding.branch = stored
            lowest = min(lowest, stored - reach)
        holding.start = max(0, lowest)
        if match.snapshot and found >= holding.start:
            holding.start, holding.resumed = found, True
        return holding

    def _allocate(
        self,
        holding: Holding,
        tokens: int,
        loops: int,
        spare: int,
        snapshot: Snapshot | None = None,
    ) -> Holding | None:
        found = snapshot.pages if snapshot else []
        shared = list(holding.pages)
        self.pool.share(shared)
        self.pool.share(found)  # so that making room does not take what is about to be copied
        number = self.need(tokens, loops) - len(shared)
        if self.pool.available - number < spare:
            self.pool.release([*shared, *found])
            return None
        self.index.reclaim(number)
        new = self.pool.take(number)
        first = -(-tokens // self.page_size) - len(shared)
        holding.pages = [*shared, *new[:first]]
        rings = new[first:]
        size = self.ring_pages
        holding.rings = [rings[at : at + size] for at in range(0, len(rings), size)]
        if snapshot:
            self._restore(holding, snapshot, at=len(shared))
            self.pool.release(found)
        return holding

    def _restore(self, holding: Holding, snapshot: Snapshot, at: int) -> None:
        holding.states = snapshot.states
        for ring, kept in zip(holding.rings, snapshot.rings, strict=True):
            self.copies += zip(kept, ring, strict=True)
        if snapshot.length > holding.stored:
            self.copies += zip(snapshot.partial, holding.pages[at : at + 1], strict=True)
            holding.stored = snapshot.length

    def fork(self, holding: Holding, tokens: int) -> Holding | None:
        """A second owner of the same `tokens` tokens: full pages shared, the rest copied."""
        full = tokens // self.page_size
        number = len(holding.pages) - full + sum(map(len, holding.rings))
        if self.pool.available < number:
            return None
        self.index.reclaim(number)
        new = iter(self.pool.take(number))
        self.pool.share(holding.pages[:full])
        twin = Holding(
            pages=holding.pages[:full], rings=[], stored=holding.stored, private=holding.private
        )
        twin.pages += [self._copy(page, next(new)) for page in holding.pages[full:]]
        twin.rings = [[self._copy(page, next(new)) for page in ring] for ring in holding.rings]
        return twin

    def grow(self, holding: Holding, tokens: int) -> bool:
        """Make room for `tokens` tokens in all; False if there is none."""
        number = -(-tokens // self.page_size) - len(holding.pages)
        if number <= 0:
            return True
        if self.pool.available < number:
            return False
        self.index.reclaim(number)
        holding.pages += self.pool.take(number)
        holding.moved = True
        return True

    def release(self, holding: Holding) -> None:
        """Give back everything that a sequence owns."""
        for pages in holding.owned():
            self.pool.release(pages)
        holding.pages, holding.rings, holding.drafts = [], [], []

    def retire(
        self, holding: Holding, tokens: Sequence[int], states: Sequence[object] | None
    ) -> None:
        """Release a sequence that has run `tokens`, and keep what later prompts may reuse.

        `states` are what its loops 1..R-1 handed on at the last of them, None if its later loops
        are not as far.
        """
        if not self.reuse:
            self.release(holding)
            return
        holding.pages = self.index.insert(tokens, holding.pages)
        if states and holding.rings:
            full = len(tokens) // self.page_size
            partial = holding.pages[full:] if len(tokens) % self.page_size else []
            snapshot = Snapshot(
                length=len(tokens),
                loops=len(holding.rings) + 1,
                rings=holding.rings,
                partial=partial[:1],
                states=list(states),
            )
            if self.index.keep(tokens, snapshot):
                holding.rings = []
                del holding.pages[full : full + len(snapshot.partial)]
        self.release(holding)

    def draft(self, holding: Holding, tokens: Sequence[int], spare: int) -> Draft | None:
        """Begin a snapshot at the end of `tokens`; None if there is one, or no room to spare.

        None for a private sequence too, which leaves what it knows at its end.
        """
        loops = len(holding.rings) + 1
        number = (loops - 1) * self.ring_pages + (len(tokens) % self.page_size > 0)
        room = self.pool.available - number >= spare
        wanted = self.reuse and loops > 1 and not holding.private
        if not (wanted and room) or self.index.has(tokens, loops):
            return None
        self.index.reclaim(number)
        new = self.pool.take(number)
        rings = [new[r * self.ring_pages : (r + 1) * self.ring_pages] for r in range(loops - 1)]
        snapshot = Snapshot(
            length=len(tokens),
            loops=loops,
            rings=rings,
            partial=new[(loops - 1) * self.ring_pages :],
        )
        snapshot.states = [None] * (loops - 1)
        draft = Draft(length=len(tokens), snapshot=snapshot)
        holding.drafts.append(draft)
        return draft

    def draft_ring(self, holding: Holding, draft: Draft, later: int) -> None:
        """Later loop number `later` (from 0) stands at the draft's end: copy its window."""
        for page, copy in zip(holding.rings[later], draft.snapshot.rings[later], strict=True):
            self._copy(page, copy)

    def finish_draft(self, holding: Holding, draft: Draft, tokens: Sequence[int]) -> None:
        """All loops have been there: give the snapshot to the prefix index."""
        holding.drafts.remove(draft)
        full = len(tokens) // self.page_size
        for page, copy in zip(holding.pages[full:], draft.snapshot.partial, strict=False):
            self._copy(page, copy)
        known = self.index.insert(tokens, holding.pages[:full])
        holding.pages[:full] = known
        holding.moved = True
        if not self.index.keep(tokens, draft.snapshot):
            self.pool.release(draft.snapshot.pages)

    def learn(self, holding: Holding, tokens: Sequence[int]) -> None:
        """Make the full pages of `tokens` known to other sequences while this one runs."""
        if self.reuse and not holding.private:
            holding.pages = self.index.insert(tokens, holding.pages)
            holding.moved = True

    def _copy(self, page: int, copy: int) -> int:
        self.copies.append((page, copy))
        return copy

    def check_integrity(self, holdings: Iterable[Holding]) -> None:
        """Assert that live holdings and the prefix index explain every reference."""
        owned = [pages for holding in holdings for pages in holding.owned()]
        self.pool.check_integrity([*owned, *self.index.holders()])
        self.index.check_integrity()
