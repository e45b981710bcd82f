"""Prompts seen before: loop-1 pages by content, and later loops' states where they were kept.

Loop-1 keys depend on the tokens alone, so a full page can be shared by all sequences that begin
alike. The later loops cannot continue from pages: they need their windows and the states handed
on at exactly the point of reuse (SPEC.md section 3), which a `Snapshot` holds. No torch.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from loopcoder.cache.pages import PagePool

Key = tuple[int, tuple[int, ...]]


@dataclass(eq=False, kw_only=True)
class Snapshot:
    """What loops 2..R need to go on after `length` tokens.

    `rings` [R - 1] lists of pages; `partial` is a copy of the last, unfilled loop-1 page;
    `states` [R - 1] are what loops 1..R-1 handed on at the last token (opaque here).
    """

    length: int
    loops: int
    rings: list[list[int]]
    partial: list[int] = field(default_factory=list)
    states: list[object] = field(default_factory=list)

    @property
    def pages(self) -> list[int]:
        """Every page the snapshot owns."""
        return [page for ring in self.rings for page in ring] + self.partial


@dataclass(eq=False)
class _Node:
    """One full page of a prompt, found by its parent and its tokens."""

    number: int
    key: Key
    page: int
    parent: "_Node | None"
    children: int = 0
    snapshots: dict[tuple[int, tuple[int, ...]], Snapshot] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Match:
    """The longest known beginning of a prompt: its pages, and the latest usable snapshot."""

    pages: list[int]
    snapshot: Snapshot | None


class PrefixIndex:
    """Pages by content, least recently used first to go."""

    def __init__(self, pool: PagePool, page_size: int) -> None:
        self.pool = pool
        self.page_size = page_size
        self._root = _Node(0, (-1, ()), -1, None)
        self._nodes: dict[Key, _Node] = {}
        self._numbers = 0
        # The order of both is the order of use; a node comes after its children and snapshots.
        self._used: OrderedDict[_Node | tuple[_Node, tuple[int, tuple[int, ...]]], None]
        self._used = OrderedDict()

    def match(self, tokens: Sequence[int], loops: int, limit: int) -> Match:
        """What is known of the first `limit` tokens, for a sequence that runs `loops` loops."""
        chain, snapshot = [self._root], None
        while True:
            node = chain[-1]
            at = (len(chain) - 1) * self.page_size
            snapshot = self._snapshot_at(node, tokens, at, loops, limit) or snapshot
            if at + self.page_size > limit:
                break
            found = self._nodes.get((node.number, tuple(tokens[at : at + self.page_size])))
            if found is None:
                break
            chain.append(found)
        self._touch(chain)
        return Match(pages=[node.page for node in chain[1:]], snapshot=snapshot)

    def _snapshot_at(
        self, node: _Node, tokens: Sequence[int], at: int, loops: int, limit: int
    ) -> Snapshot | None:
        best = None
        for (count, rest), snapshot in node.snapshots.items():
            fits = count == loops and at + len(rest) <= limit
            longer = best is None or snapshot.length > best.length
            if fits and longer and tuple(tokens[at : at + len(rest)]) == rest:
                best = snapshot
        if best is not None:
            self._used.move_to_end((node, (loops, tuple(tokens[at : best.length]))))
        return best

    def insert(self, tokens: Sequence[int], pages: list[int]) -> list[int]:
        """Add the full pages of `tokens`; returns `pages` with known ones put in their place.

        The caller's references move to the pages it gets back.
        """
        chain, result = [self._root], list(pages)
        for number in range(len(tokens) // self.page_size):
            at = number * self.page_size
            key = (chain[-1].number, tuple(tokens[at : at + self.page_size]))
            node = self._nodes.get(key)
            if node is None:
                node = self._add(key, pages[number], chain[-1])
            elif node.page != pages[number]:
                self.pool.share([node.page])
                self.pool.release([pages[number]])
                result[number] = node.page
            chain.append(node)
        self._touch(chain)
        return result

    def _add(self, key: Key, page: int, parent: _Node) -> _Node:
        self._numbers += 1
        node = _Node(self._numbers, key, page, parent)
        self.pool.share([page])
        self.pool.index(page)
        parent.children += 1
        self._nodes[key] = node
        self._used[node] = None
        return node

    def keep(self, tokens: Sequence[int], snapshot: Snapshot) -> bool:
        """Take over a snapshot (and its pages) at the end of `tokens`, whose pages are known.

        False, and nothing taken, if there is one already.
        """
        assert len(tokens) == snapshot.length
        chain, at = [self._root], 0
        while at + self.page_size <= len(tokens):
            chain.append(self._nodes[(chain[-1].number, tuple(tokens[at : at + self.page_size]))])
            at += self.page_size
        node, name = chain[-1], (snapshot.loops, tuple(tokens[at:]))
        known = name in node.snapshots
        if not known:
            node.snapshots[name] = snapshot
            for page in snapshot.pages:
                self.pool.index(page)
        self._used[(node, name)] = None
        self._used.move_to_end((node, name))
        self._touch(chain)
        return not known

    def has(self, tokens: Sequence[int], loops: int) -> bool:
        """Whether a snapshot stands at the end of `tokens`."""
        match = self.match(tokens, loops, len(tokens))
        return match.snapshot is not None and match.snapshot.length == len(tokens)

    def reclaim(self, number: int) -> None:
        """Free pages, least recently used first, until the pool has `number` free ones."""
        while self.pool.free < number:
            victim = next(entry for entry in self._used if self._removable(entry))
            del self._used[victim]
            if isinstance(victim, _Node):
                assert victim.parent is not None
                victim.parent.children -= 1
                del self._nodes[victim.key]
                self.pool.forget(victim.page)
            else:
                node, name = victim
                for page in node.snapshots.pop(name).pages:
                    self.pool.forget(page)

    def clear(self) -> None:
        """Forget everything that nobody uses."""
        self.reclaim(self.pool.free + self.pool.reclaimable)

    def _removable(self, entry: _Node | tuple[_Node, tuple[int, tuple[int, ...]]]) -> bool:
        if isinstance(entry, _Node):
            held = entry.children or entry.snapshots or self.pool.in_use(entry.page)
            return not held
        node, name = entry
        return not any(self.pool.in_use(page) for page in node.snapshots[name].pages)

    def _touch(self, chain: list[_Node]) -> None:
        for node in reversed(chain[1:]):
            self._used.move_to_end(node)

    def holders(self) -> Iterator[list[int]]:
        """The pages that the index holds, once for each reference."""
        for node in (self._root, *self._nodes.values()):
            yield [] if node is self._root else [node.page]
            yield from (snapshot.pages for snapshot in node.snapshots.values())

    def check_integrity(self) -> None:
        """Assert that chains, counts and the order of use agree."""
        snapshots = sum(len(n.snapshots) for n in (self._root, *self._nodes.values()))
        assert len(self._used) == len(self._nodes) + snapshots
        children: dict[int, int] = {}
        for node in self._nodes.values():
            assert node.parent is not None
            children[node.parent.number] = children.get(node.parent.number, 0) + 1
        for node in (self._root, *self._nodes.values()):
            assert node.children == children.get(node.number, 0)
