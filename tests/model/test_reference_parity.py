"""The project's model against the reference, on many random small configurations."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from tests.model.configs import (
    VARIANTS,
    Array,
    Case,
    Weights,
    random_cases,
    random_tokens,
    variant_name,
)
from tests.model.reference import Result, reference_forward

CASES = random_cases()
LOOPED = [case for case in CASES if case.config.plt_num_loops > 1]
BATCH_CASES = CASES[::2] + CASES[1::6]
FLOAT64_TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 1e-4
LONGEST_PADDED = 12

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
batch_cases = pytest.mark.parametrize("case", BATCH_CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tensors this small run slower, and on busy machines far slower, on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(config: ModelConfig, weights: Weights, dtype: torch.dtype = torch.float64) -> PLT:
    model = PLT(config).to(dtype)
    model.load_state_dict({name: torch.tensor(w, dtype=dtype) for name, w in weights.items()})
    return model.eval()


@cache
def case_model(case: Case) -> PLT:
    return build(case.config, case.weights())


@cache
def solo(case: Case, tokens: tuple[int, ...], num_loops: int | None = None) -> Result:
    return reference_forward(case.weights(), case.config, tokens, num_loops)


def run(
    model: PLT,
    rows: Sequence[Sequence[int]],
    *,
    mask: Sequence[Sequence[int]] | None = None,
    positions: Sequence[Sequence[int]] | None = None,
    num_loops: int | None = None,
) -> tuple[Array, list[Array]]:
    """Logits [B, T, V] and every loop's states [B, T, D]."""
    with torch.no_grad():
        out = model(
            torch.tensor(rows),
            attention_mask=None if mask is None else torch.tensor(mask),
            position_ids=None if positions is None else torch.tensor(positions),
            num_loops=num_loops,
        )
    return out.logits.double().numpy(), [h.double().numpy() for h in out.loop_states]


def assert_near(name: str, actual: Array, expected: Array, tolerance: float) -> None:
    assert actual.shape == expected.shape, f"{name}: {actual.shape} for {expected.shape}"
    error_T = np.abs(actual - expected).max(axis=-1)
    worst = int(error_T.argmax())
    allowed = tolerance * max(1.0, float(np.abs(expected).max()))
    assert error_T[worst] <= allowed, (
        f"{name} differs by {error_T[worst]:.3g} at position {worst}; "
        f"positions above tolerance: {np.flatnonzero(~(error_T <= allowed)).tolist()}"
    )


def assert_sequence(
    logits_TV: Array,
    states: Sequence[Array],
    expected: Result,
    tolerance: float = FLOAT64_TOLERANCE,
    where: str = "",
) -> None:
    """Loop by loop before the logits: the first loop named is where the two part."""
    assert len(states) == len(expected.states)
    for r, (h_TD, expected_TD) in enumerate(zip(states, expected.states, strict=True), start=1):
        assert_near(f"{where}h^{r}", h_TD, expected_TD, tolerance)
    assert_near(f"{where}logits", logits_TV, expected.logits, tolerance)


def documents(case: Case, lengths: Sequence[int]) -> list[tuple[int, ...]]:
    return [
        tuple(random_tokens(case.config, length, seed=1000 * case.seed + i))
        for i, length in enumerate(lengths)
    ]


def random_lengths(case: Case, count: int, largest: int) -> list[int]:
    rng = np.random.default_rng([case.seed, 3])
    return [int(length) for length in rng.integers(1, largest + 1, size=count)]


@each_case
def test_float64(case: Case) -> None:
    tokens = tuple(case.tokens())
    logits, states = run(case_model(case), [tokens])
    assert_sequence(logits[0], [h[0] for h in states], solo(case, tokens))


@each_case
def test_float32(case: Case) -> None:
    tokens = tuple(case.tokens())
    logits, states = run(build(case.config, case.weights(), torch.float32), [tokens])
    assert_sequence(logits[0], [h[0] for h in states], solo(case, tokens), FLOAT32_TOLERANCE)


@pytest.mark.parametrize("side", ["right", "left"])
@batch_cases
def test_padded_batch(case: Case, side: str) -> None:
    rows = documents(case, [1, case.length, *random_lengths(case, 2, LONGEST_PADDED)])
    width = max(len(row) for row in rows)
    # Pads are real token ids: a leak of theirs shows.
    pads = [tuple(random_tokens(case.config, width - len(row), seed=77)) for row in rows]
    if side == "right":
        batch = [row + pad for row, pad in zip(rows, pads, strict=True)]
        mask = [[1] * len(row) + [0] * len(pad) for row, pad in zip(rows, pads, strict=True)]
        starts = [0] * len(rows)
    else:
        batch = [pad + row for row, pad in zip(rows, pads, strict=True)]
        mask = [[0] * len(pad) + [1] * len(row) for row, pad in zip(rows, pads, strict=True)]
        starts = [len(pad) for pad in pads]
    logits, states = run(case_model(case), batch, mask=mask)
    for i, row in enumerate(rows):
        real = slice(starts[i], starts[i] + len(row))
        assert_sequence(
            logits[i, real], [h[i, real] for h in states], solo(case, row), where=f"row {i}: "
        )


# Lengths of the documents in each row; all rows are 17 tokens wide.
PACKED = ((17,), (5, 12), (1, 1, 8, 7), (9, 7, 1))


@batch_cases
def test_packed_documents(case: Case) -> None:
    rows = [documents(case, lengths) for lengths in PACKED]
    batch = [sum(row, ()) for row in rows]
    positions = [[t for document in row for t in range(len(document))] for row in rows]
    logits, states = run(case_model(case), batch, positions=positions)
    for i, row in enumerate(rows):
        start = 0
        for d, document in enumerate(row):
            here = slice(start, start + len(document))
            assert_sequence(
                logits[i, here],
                [h[i, here] for h in states],
                solo(case, document),
                where=f"row {i}, document {d}: ",
            )
            start += len(document)


@pytest.mark.parametrize("pad_position", [0, 1])
@pytest.mark.parametrize("side", ["right", "left"])
def test_packed_and_padded(side: str, pad_position: int) -> None:
    """Two documents and three pads beside a full row; tools differ on the positions of pads."""
    for case in LOOPED[:8]:
        first, second, full = documents(case, [6, 4, 13])
        pad = (3, 1, 2)
        packed = first + second
        positions = [*range(6), *range(4)]
        pad_positions = [pad_position] * 3
        if side == "right":
            row, row_mask, row_positions = (
                packed + pad,
                [1] * 10 + [0] * 3,
                positions + pad_positions,
            )
            at = 0
        else:
            row, row_mask, row_positions = (
                pad + packed,
                [0] * 3 + [1] * 10,
                pad_positions + positions,
            )
            at = 3
        logits, states = run(
            case_model(case),
            [row, full],
            mask=[row_mask, [1] * 13],
            positions=[row_positions, [*range(13)]],
        )
        for i, start, document in ((0, at, first), (0, at + 6, second), (1, 0, full)):
            here = slice(start, start + len(document))
            assert_sequence(
                logits[i, here],
                [h[i, here] for h in states],
                solo(case, document),
                where=f"{case.name}, row {i} from {start}: ",
            )


@pytest.mark.parametrize("num_loops", [1, 2, 3, 5])
@pytest.mark.parametrize("case", LOOPED[::3], ids=lambda case: case.name)
def test_another_number_of_loops(case: Case, num_loops: int) -> None:
    tokens = tuple(case.tokens())
    logits, states = run(case_model(case), [tokens], num_loops=num_loops)
    assert len(states) == num_loops
    assert_sequence(logits[0], [h[0] for h in states], solo(case, tokens, num_loops))


def test_all_ones_mask_and_plain_positions_change_nothing() -> None:
    for case in LOOPED[:6]:
        tokens = tuple(case.tokens())
        T = len(tokens)
        logits, states = run(case_model(case), [tokens], mask=[[1] * T], positions=[[*range(T)]])
        assert_sequence(logits[0], [h[0] for h in states], solo(case, tokens))


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_name)
def test_variants(variant: dict[str, Any]) -> None:
    """Documents packed behind pads beside one of the same width, for a few configurations each."""
    first = VARIANTS.index(variant)
    for case in LOOPED[first :: len(VARIANTS)][:3]:
        varied = replace(case, config=case.config.with_(**variant))
        short, long, full = documents(varied, [4, 7, 13])
        logits, states = run(
            case_model(varied),
            [(3, 1, *short, *long), full],
            mask=[[0] * 2 + [1] * 11, [1] * 13],
            positions=[[0, 0, *range(4), *range(7)], [*range(13)]],
        )
        for i, start, document in ((0, 2, short), (0, 6, long), (1, 0, full)):
            here = slice(start, start + len(document))
            assert_sequence(
                logits[i, here],
                [h[i, here] for h in states],
                solo(varied, document),
                where=f"{varied.name}, row {i} from {start}: ",
            )
