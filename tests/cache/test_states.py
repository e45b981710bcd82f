"""Handed-on states: what a loop leaves is what the next one reads, one token later."""

from random import Random

import pytest
import torch
from torch import Tensor

from loopcoder.cache.states import HandedStates

WIDTH = 3


def _states(slots: int = 2) -> HandedStates:
    return HandedStates(slots, WIDTH, torch.float32, torch.device("cpu"))


def _made(loop: int, start: int, stop: int) -> Tensor:
    """A recognisable state for each token: [T, D]."""
    token_T1 = torch.arange(start, stop, dtype=torch.float32)[:, None]
    return token_T1 + 1000 * loop + torch.zeros(WIDTH)


def _shifted(loop: int, start: int, stop: int) -> Tensor:
    """What the loop after `loop` reads at tokens `start` to `stop`; zero before the first."""
    read_TD = _made(loop, start - 1, stop - 1)
    if start == 0:
        read_TD[0] = 0
    return read_TD


@pytest.mark.parametrize("seed", range(30))
def test_chunks_of_any_size_come_back_shifted_by_one(seed: int) -> None:
    """Loop 1 runs ahead by any number of tokens, loop 2 reads in other pieces, or skips some."""
    random = Random(seed)
    states, tokens = _states(), random.randint(1, 20)
    states.admit(1, 0, [])
    done = read = 0
    while read < tokens:
        if done < tokens:
            start, done = done, random.randint(done + 1, tokens)
            states.after(1, 0, start, _made(0, start, done))
            assert torch.equal(states.newest_SRD[1, 0], _made(0, done - 1, done)[0])
        skipped = random.choice([0, 0, random.randrange(done - read)])
        start, read = read + skipped, random.randint(read + skipped + 1, done)
        assert torch.equal(states.before(1, 1, start, read), _shifted(0, start, read))
        assert torch.equal(states.state(1, 0, read - 1), _made(0, read - 1, read)[0])


def test_the_first_token_reads_zero() -> None:
    states = _states()
    states.admit(0, 0, [])
    assert torch.equal(states.before(0, 1, 0, 1), torch.zeros(1, WIDTH))


def test_what_no_goal_needs_may_be_missing() -> None:
    states = _states()
    states.admit(0, 0, [])
    states.after(0, 0, 5, _made(0, 5, 8))
    states.after(0, 0, 8, _made(0, 8, 8))  # a chunk of which nothing was needed
    states.after(0, 0, 8, _made(0, 8, 9))
    assert torch.equal(states.before(0, 1, 6, 9), _shifted(0, 6, 9))


@pytest.mark.parametrize(("start", "stop"), [(2, 4), (6, 10)])
def test_a_state_that_is_not_there_is_noticed(start: int, stop: int) -> None:
    states = _states()
    states.admit(0, 0, [])
    states.after(0, 0, 5, _made(0, 5, 8))
    with pytest.raises(AssertionError):
        states.before(0, 1, start, stop)


def test_a_sequence_takes_up_what_was_kept_and_nothing_of_the_one_before() -> None:
    states = _states()
    states.admit(0, 0, [])
    for loop in range(2):
        states.after(0, loop, 0, _made(loop, 0, 4))
    kept = states.states(0, 3)
    states.after(0, 0, 4, _made(7, 4, 5))  # what was kept is a copy
    assert [x[0] for x in kept] == [3, 1003]
    states.admit(0, 9, kept)
    assert [x[0] for x in states.states(0, 3)] == [3, 1003]
    assert torch.equal(states.before(0, 1, 9, 10), kept[0][None])
    assert torch.equal(states.before(0, 2, 9, 10), kept[1][None])
    with pytest.raises(AssertionError):
        states.before(0, 1, 9, 11)


def test_slots_are_apart() -> None:
    states = _states()
    for slot in range(2):
        states.admit(slot, 0, [])
        states.after(slot, 0, 0, _made(slot, 0, 3))
    states.admit(0, 0, [])
    assert torch.equal(states.before(1, 1, 1, 3), _shifted(1, 1, 3))


def test_more_loops_widen_the_table_and_keep_what_is_there() -> None:
    states = _states()
    states.admit(0, 0, [])
    states.after(0, 0, 0, _made(0, 0, 3))
    states.reserve(3)
    assert states.newest_SRD.shape == (2, 3, WIDTH)
    assert states.newest_SRD[0, 0, 0] == 2
