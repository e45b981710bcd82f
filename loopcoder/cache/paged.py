"""Paged memory of many sequences: one pool of pages for loop 1 and for the later loops' windows.

The numbers (who owns which page) are `loopcoder.cache.ledger`'s; this file holds the keys and
values, the page tables as tensors, and copies pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from loopcoder.kernels.attention import AttentionBackend, attention_backend
from loopcoder.kernels.memory import empty_in_huge_pages

NDArray = np.ndarray[tuple[int, ...], np.dtype[np.int32]]


@dataclass(frozen=True, kw_only=True)
class PagedShape:
    """The sizes of a paged memory. W (`window`) counts the query itself (SPEC.md section 1)."""

    layers: int
    groups: int
    head_dim: int
    window: int
    page_size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def ring_pages(self) -> int:
        """Pages of one later loop's window."""
        return -(-self.window // self.page_size)

    @property
    def page_bytes(self) -> int:
        """Keys and values of one page in all layers."""
        slots = 2 * self.layers * self.page_size * self.groups
        return slots * self.head_dim * self.dtype.itemsize


def fitting_page_size(window: int) -> int:
    """The page size near 16 tokens of which a window fills whole pages: 13 for 65 keys."""
    sizes = range(8, 25)
    return min(sizes, key=lambda p: (-(-window // p) * p - window, abs(p - 16)))


class PagedMemory:
    """Keys and values [L, 2, P + 1, p, G, K], and the page tables of `slots` sequences.

    The last page takes what is computed anew although it is stored: nobody reads it.
    """

    def __init__(self, shape: PagedShape, *, pages: int, slots: int) -> None:
        self.shape = shape
        self.pages = pages
        self.backend: AttentionBackend = attention_backend(shape.device, shape.dtype)
        size = (shape.layers, 2, pages + 1, shape.page_size, shape.groups, shape.head_dim)
        # Not zeroed: untouched memory costs nothing, and only written slots are ever read.
        if shape.device.type == "cpu":
            self.pool = empty_in_huge_pages(*size, dtype=shape.dtype)
        else:
            self.pool = torch.empty(size, dtype=shape.dtype, device=shape.device)
        self.table: NDArray = np.zeros((slots, 1), dtype=np.int32)
        self.rings: NDArray = np.zeros((slots, 0, shape.ring_pages), dtype=np.int32)

    @property
    def spare_page(self) -> int:
        """The page that nobody reads."""
        return self.pages

    def assign(self, slot: int, pages: Sequence[int], rings: Sequence[Sequence[int]]) -> None:
        """Write a sequence's page numbers into the tables."""
        if len(pages) > self.table.shape[1]:
            wider = max(len(pages), 2 * self.table.shape[1]) - self.table.shape[1]
            self.table = np.pad(self.table, ((0, 0), (0, wider)))
        if len(rings) > self.rings.shape[1]:
            more = len(rings) - self.rings.shape[1]
            self.rings = np.pad(self.rings, ((0, 0), (0, more), (0, 0)))
        self.table[slot, : len(pages)] = pages
        if rings:
            self.rings[slot, : len(rings)] = rings

    def copy_pages(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copy pages (from, to) in all layers, with the effect of one after the other."""
        sources, targets = [list(pages) for pages in zip(*copies, strict=True)] or ([], [])
        if set(sources) & set(targets) or len(set(targets)) < len(targets):
            for source, target in copies:
                self.pool[:, :, target] = self.pool[:, :, source]
        elif sources:
            self.pool[:, :, targets] = self.pool[:, :, sources]

    def tokens(self, layer: int, slot: int, stop: int) -> tuple[Tensor, Tensor]:
        """Loop-1 keys and values of a sequence's first `stop` tokens: two of [1, stop, G, K]."""
        pages = self.table[slot, : -(-stop // self.shape.page_size)]
        if (np.diff(pages) == 1).all():
            both = self.pool[layer, :, pages[0] : pages[0] + len(pages)]
        else:
            index = torch.from_numpy(pages.astype(np.int64)).to(self.shape.device)
            both = self.pool[layer].index_select(1, index)
        k_SGK, v_SGK = both.flatten(1, 2)[:, :stop]
        return k_SGK[None], v_SGK[None]

    def ring_slots(self, slot: int, loop: int, start: int, stop: int) -> Tensor:
        """Where the window of `loop` (0-based, >= 1) keeps tokens `start` to `stop`, at most W.

        Indices into the pool's pages, flattened.
        """
        place = np.arange(start, stop) % self.shape.window
        page, offset = np.divmod(place, self.shape.page_size)
        flat = self.rings[slot, loop - 1, page].astype(np.int64) * self.shape.page_size + offset
        return torch.from_numpy(flat).to(self.shape.device)

    def flat(self, layer: int) -> tuple[Tensor, Tensor]:
        """The pool of a layer by slot instead of page: keys and values, [(P + 1) p, G, K]."""
        k, v = self.pool[layer].flatten(1, 2)
        return k, v
