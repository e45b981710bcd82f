"""Pages of memory as numbers: which are free, who shares them, which may be reclaimed. No torch."""

from collections import Counter
from collections.abc import Iterable


class PagePool:
    """`count` pages with reference counts.

    A page that only the prefix index holds is *reclaimable*: it counts as available, because the
    index gives it up when asked. Pages are the unit in which sequences own memory.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.reclaimable = 0
        self._free = list(range(count - 1, -1, -1))
        self._references = [0] * count
        self._indexed = bytearray(count)

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    @property
    def available(self) -> int:
        """Pages that can be had: free, or held by the prefix index alone."""
        return len(self._free) + self.reclaimable

    def take(self, number: int) -> list[int]:
        """`number` free pages, each with one reference. The caller has made sure they exist."""
        assert 0 <= number <= len(self._free), f"{number} pages asked, {len(self._free)} free"
        taken = [self._free.pop() for _ in range(number)]
        for page in taken:
            self._references[page] = 1
        return taken

    def share(self, pages: Iterable[int]) -> None:
        """One more reference on each page."""
        for page in pages:
            assert self._references[page] > 0, f"page {page} is free and cannot be shared"
            self.reclaimable -= self._lonely(page)
            self._references[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """One reference less on each; the last one frees the page."""
        for page in pages:
            assert self._references[page] > 0, f"page {page} is already free"
            self._references[page] -= 1
            self.reclaimable += self._lonely(page)
            if not self._references[page]:
                assert not self._indexed[page], f"page {page} was freed under the prefix index"
                self._free.append(page)

    def index(self, page: int) -> None:
        """Pass one of the page's references on to the prefix index."""
        assert not self._indexed[page], f"page {page} is in the prefix index twice"
        self._indexed[page] = True
        self.reclaimable += self._lonely(page)

    def forget(self, page: int) -> None:
        """Drop the prefix index's reference."""
        assert self._indexed[page], f"page {page} is not in the prefix index"
        self.reclaimable -= self._lonely(page)
        self._indexed[page] = False
        self.release([page])

    def in_use(self, page: int) -> bool:
        """Whether someone besides the prefix index holds the page."""
        return self._references[page] > self._indexed[page]

    def check_integrity(self, holders: Iterable[Iterable[int]]) -> None:
        """Assert that `holders` (the prefix index included) explain every reference."""
        held = Counter(page for pages in holders for page in pages)
        for page, references in enumerate(self._references):
            assert held[page] == references, (
                f"page {page} has {references} references, {held[page]} holders"
            )
        free = set(self._free)
        assert len(free) == len(self._free), "a page is twice in the free list"
        assert free == {p for p, n in enumerate(self._references) if n == 0}
        lonely = sum(self._lonely(page) for page in range(self.count))
        assert lonely == self.reclaimable, f"{lonely} pages are reclaimable, not {self.reclaimable}"

    def _lonely(self, page: int) -> bool:
        return bool(self._indexed[page]) and self._references[page] == 1
