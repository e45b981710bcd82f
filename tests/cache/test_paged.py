"""Paged keys and values: tables, copies, and the slots of a window."""

from random import Random

import pytest
import torch

from loopcoder.cache.paged import PagedMemory, PagedShape, fitting_page_size


def _memory(*, pages: int = 8, page_size: int = 3, window: int = 5, slots: int = 2) -> PagedMemory:
    shape = PagedShape(
        layers=2,
        groups=2,
        head_dim=4,
        window=window,
        page_size=page_size,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    memory = PagedMemory(shape, pages=pages, slots=slots)
    memory.pool.copy_(torch.arange(memory.pool.numel()).view_as(memory.pool))
    return memory


@pytest.mark.parametrize("pages", [[2, 3, 4], [5, 0, 7], [6]])
def test_tokens_come_in_order_wherever_their_pages_lie(pages: list[int]) -> None:
    memory = _memory()
    memory.assign(1, pages, [])
    for stop in range(1, 3 * len(pages) + 1):
        for layer in range(2):
            for kept, pool in zip(memory.tokens(layer, 1, stop), memory.pool[layer], strict=True):
                expected = torch.cat([pool[page] for page in pages])[:stop]
                assert torch.equal(kept, expected[None])


def test_tables_grow_and_keep_what_other_sequences_have() -> None:
    memory = _memory()
    memory.assign(0, [4], [[1, 2]])
    memory.assign(1, [0, 3, 5, 6], [[7, 6], [5, 4], [3, 2]])
    assert memory.table[0, 0] == 4
    assert memory.table[1, :4].tolist() == [0, 3, 5, 6]
    assert memory.rings[0, 0].tolist() == [1, 2]
    assert memory.rings[1].tolist() == [[7, 6], [5, 4], [3, 2]]


def test_a_ring_holds_its_window_and_wraps() -> None:
    memory = _memory(page_size=3, window=5)
    memory.assign(0, [0], [[7, 2], [6, 4]])
    for loop, (first, second) in ((1, (7, 2)), (2, (6, 4))):
        slots = [first * 3, first * 3 + 1, first * 3 + 2, second * 3, second * 3 + 1]
        assert memory.ring_slots(0, loop, 0, 5).tolist() == slots
        assert memory.ring_slots(0, loop, 8, 12).tolist() == [*slots[3:], *slots[:2]]
        assert memory.ring_slots(0, loop, 4, 4).tolist() == []


def test_flat_is_the_pool_itself() -> None:
    memory = _memory()
    k, _ = memory.flat(1)
    k[4 * 3 + 2] = -1
    assert bool((memory.pool[1, 0, 4, 2] == -1).all())


@pytest.mark.parametrize("seed", range(20))
def test_copies_have_the_effect_of_one_after_the_other(seed: int) -> None:
    """Chains, swaps and pages written twice among them; nothing at all as well."""
    random = Random(seed)
    memory = _memory()
    expected = memory.pool.clone()
    copies = [(random.randrange(8), random.randrange(8)) for _ in range(seed)]
    for source, target in copies:
        expected[:, :, target] = expected[:, :, source]
    memory.copy_pages(copies)
    assert torch.equal(memory.pool, expected)


def test_a_page_counts_what_it_takes() -> None:
    memory = _memory()
    assert memory.shape.page_bytes * (memory.pages + 1) == memory.pool.nbytes
    assert memory.spare_page == memory.pages


@pytest.mark.parametrize(("window", "size"), [(65, 13), (129, 8), (64, 16), (48, 16), (1, 8)])
def test_windows_fill_whole_pages_where_they_can(window: int, size: int) -> None:
    """13 tokens for the released window of 65; among equals the size near 16."""
    found = fitting_page_size(window)
    waste = -(-window // found) * found - window
    assert 8 <= found <= 24
    assert all(-(-window // p) * p - window >= waste for p in range(8, 25))
    if window in (65, 64, 48):
        assert (found, waste) == (size, 0)
