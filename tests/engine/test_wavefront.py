"""Which rows run: exactly those that a goal needs, found a second time by backward reachability."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcoder.engine.sequence import Sequence
from loopcoder.engine.wavefront import Span, Wavefront
from tests.engine.symbolic import request, tiny_config

# (token, loop, layer): the row as it enters `layer`, or leaves the last one (layer L). 0-based.
State = tuple[int, int, int]


def needed(tokens: int, loops: int, layers: int, reach: int) -> set[State]:
    """All that a prompt of `tokens` tokens must compute, from the definition (SPEC.md section 1).

    What is wanted at its end: the last loop's output at the last token, what the other loops hand
    on there, loop 1's keys of every token, and each later loop's window of keys for the next one.
    """
    last = tokens - 1
    wanted = {(last, loop, layers) for loop in range(loops)}
    for layer in range(layers):
        wanted |= {(token, 0, layer) for token in range(tokens)}
        window = range(max(0, tokens - reach), tokens)
        wanted |= {(token, loop, layer) for token in window for loop in range(1, loops)}
    found: set[State] = set()
    while wanted:
        state = wanted.pop()
        found.add(state)
        wanted |= set(_inputs(state, layers, reach)) - found
    return found


def _inputs(state: State, layers: int, reach: int) -> list[State]:
    token, loop, layer = state
    if layer == 0:
        return [(token - 1, loop - 1, layers)] if loop and token else []
    below = [(t, 0, layer - 1) for t in range(token + 1)]  # loop 1's keys, seen by every loop
    if loop:
        below += [(t, loop, layer - 1) for t in range(max(0, token - reach), token + 1)]
    return below


def executed(span: Span, wavefront: Wavefront) -> set[State]:
    """The states that a span's rows go through."""
    layers = wavefront.config.num_hidden_layers
    lows = wavefront.lows(span) or (0,) * (layers + 1)
    return {
        (token, span.loop, layer)
        for layer in range(layers + 1)
        for token in range(max(span.start, lows[layer]), span.stop)
    }


def read_prompt(sequence: Sequence, wavefront: Wavefront, random: Random, rows: int) -> set[State]:
    """Plan a whole prompt with a random budget in each step: every state that its rows go through.

    Checks on the way that no row runs twice, and that states which matter read what was there:
    states handed on come from earlier steps, keys from the same one at the latest.
    """
    layers = wavefront.config.num_hidden_layers
    reach = wavefront.config.plt_window_size[0]
    matter = needed(len(sequence.tokens), sequence.loops, layers, reach)
    states: set[State] = set()
    entered: set[tuple[int, int]] = set()
    while sequence.prefilling:
        budget = random.randint(1, rows)
        spans = wavefront.plan(sequence, budget)
        assert 0 < sum(span.rows for span in spans) <= budget
        assert not wavefront.serial or len(spans) == 1
        now: set[State] = set()
        for span in spans:
            rows_of_span = {(token, span.loop) for token in range(span.start, span.stop)}
            assert not rows_of_span & entered, "a row ran twice"
            entered |= rows_of_span
            now |= executed(span, wavefront)
        for state in now & matter:
            for below in _inputs(state, layers, reach):
                there = states if state[2] == 0 else states | now
                assert below in there, f"{state} reads {below}, which was not there"
        states |= now
        for span in spans:
            sequence.done[span.loop] = span.stop
    return states


QUICK = settings(max_examples=100, deadline=None, derandomize=True)


@QUICK
@given(
    layers=st.integers(1, 4),
    reach=st.integers(0, 5),
    loops=st.integers(1, 4),
    tokens=st.integers(1, 60),
    rows=st.integers(1, 70),
    serial=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_the_tail_is_exactly_what_the_goal_needs(
    layers: int,
    reach: int,
    loops: int,
    tokens: int,
    rows: int,
    serial: bool,
    random: Random,
) -> None:
    wavefront = Wavefront(tiny_config(layers, reach), serial=serial)
    states = read_prompt(_sequence(tokens, loops), wavefront, random, rows)
    assert states == needed(tokens, loops, layers, reach)


@QUICK
@given(
    loops=st.integers(1, 4),
    tokens=st.integers(1, 30),
    whole=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_without_the_tail_every_row_runs(
    loops: int, tokens: int, whole: bool, random: Random
) -> None:
    """`prefill="full"`, and prompts whose log-probabilities are asked for."""
    wavefront = Wavefront(tiny_config(2, 3), tail=whole)
    sequence = _sequence(tokens, loops)
    sequence.whole = whole
    states = read_prompt(sequence, wavefront, random, 16)
    assert states == {(t, r, n) for t in range(tokens) for r in range(loops) for n in range(3)}


@QUICK
@given(
    layers=st.integers(1, 3),
    reach=st.integers(0, 4),
    loops=st.integers(2, 4),
    branch=st.integers(1, 40),
    more=st.integers(1, 40),
    random=st.randoms(use_true_random=False),
)
def test_a_branch_point_is_exact_too(
    layers: int, reach: int, loops: int, branch: int, more: int, random: Random
) -> None:
    """Both goals get what they need, and every loop stops at the first to have it kept."""
    wavefront = Wavefront(tiny_config(layers, reach))
    sequence = _sequence(branch + more, loops)
    sequence.goals = [branch, branch + more]
    states = read_prompt(sequence, wavefront, random, 30)
    assert states >= needed(branch + more, loops, layers, reach)
    assert states >= needed(branch, loops, layers, reach)


def test_the_tail_of_the_7b_is_897_tokens() -> None:
    """SPEC.md section 3: 64 * L + 1 rows of loop 2 enter the first layer, 1 leaves the last."""
    wavefront = Wavefront(tiny_config(14, 64))
    sequence = _sequence(4096, 2)
    sequence.done = [4096, 0]
    (span,) = wavefront.plan(sequence, 10_000)
    assert (span.start, span.stop) == (4096 - 897, 4096)
    lows = wavefront.lows(span)
    assert lows is not None
    assert [4096 - low for low in lows] == [64 * (14 - n) + 1 for n in range(15)]


@pytest.mark.parametrize("loops", [1, 2, 3, 4])
def test_all_loops_of_a_new_token_run_together(loops: int) -> None:
    wavefront = Wavefront(tiny_config(2, 3))
    sequence = _decoding(9, loops)
    spans = wavefront.plan(sequence, loops)
    assert [(s.loop, s.start, s.stop) for s in spans] == [(r, 9, 10) for r in range(loops)]
    assert all(wavefront.lows(span) is None for span in spans)
    assert wavefront.plan(sequence, loops - 1) == []


def test_serially_one_loop_of_a_new_token_runs_after_the_other() -> None:
    wavefront = Wavefront(tiny_config(2, 3), serial=True)
    sequence = _decoding(9, 3)
    for loop in range(3):
        (span,) = wavefront.plan(sequence, 5)
        assert (span.loop, span.start, span.stop) == (loop, 9, 10)
        sequence.done[loop] = 10
    assert sequence.complete
    assert wavefront.plan(sequence, 5) == []


def _sequence(tokens: int, loops: int) -> Sequence:
    sequence = Sequence.of(request("0", [0] * tokens, loops=loops, limit=9))
    sequence.done, sequence.goals = [0] * loops, [tokens]
    return sequence


def _decoding(tokens: int, loops: int) -> Sequence:
    sequence = _sequence(tokens, loops)
    sequence.done = [tokens] * loops
    sequence.tokens.append(1)
    return sequence
