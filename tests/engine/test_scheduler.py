"""The scheduler without a model or torch: exact inputs, fair order, nothing left behind.

Every step of `SymbolicEngine` checks that rows fit the step, that none runs twice, that each
chosen token rests on exact rows alone, that the queue is in order of arrival, that the latest are
preempted, and `check_integrity()`.
"""

import subprocess
import sys
from random import Random

import pytest

from loopcoder.errors import RequestError
from tests.engine.symbolic import VOCABULARY, SymbolicEngine, request, tiny_config


def _random_engine(random: Random) -> SymbolicEngine:
    """Memory is tight: now and then too small for two sequences."""
    page_size, reach = random.randint(1, 5), random.randint(0, 4)
    largest = -(-40 // page_size) + 3 * -(-(reach + 1) // page_size)
    return SymbolicEngine(
        tiny_config(random.randint(1, 3), reach),
        pages=largest + random.choice([0, 1, random.randint(0, largest)]),
        page_size=page_size,
        slots=random.randint(1, 4),
        rows=random.choice([4, 5, 7, 16, 64]),
        tail=random.random() < 0.8,
        serial=random.random() < 0.25,
        reuse=random.random() < 0.8,
    )


def _random_request(random: Random, name: str, told: list[list[int]]) -> object:
    """A prompt that may go on from an earlier one, with what was answered to it."""
    prompt = random.choice(told)[: max(random.choices(range(27), k=2))] if told else []
    prompt += random.choices(range(VOCABULARY), k=random.randrange(1, 28 - len(prompt)))
    return request(
        name,
        prompt,
        loops=random.choice([1, 2, 2, 3, 4]),
        limit=random.randrange(1, 13),
        n=random.choice([1, 1, 1, 2, 3]),
        whole=random.random() < 0.1,
    )


@pytest.mark.parametrize("seed", range(150))
def test_random_schedules_are_exact_and_leave_nothing(seed: int) -> None:
    random = Random(seed)
    engine, requests = _random_engine(random), random.randint(1, 14)
    told: list[list[int]] = []
    engine.on_finish = lambda sequence: told.append(sequence.tokens)
    added, aborted, steps = {}, set(), 0
    while engine.busy or len(added) < requests:
        if len(added) < requests and random.random() < 0.3:
            asked = _random_request(random, str(len(added)), told)
            added[asked.request_id] = asked
            engine.scheduler.add(asked)
        if added and random.random() < 0.05:
            name = random.choice(list(added))
            aborted.add(name)
            told += [sequence.tokens for sequence in engine.scheduler.abort(name)]
            engine.scheduler.check_integrity()
        engine.step()
        steps += 1
        assert steps < 5000, "it does not end"
    for name, asked in added.items():
        if name not in aborted:
            outputs = [engine.outputs[name, index] for index in range(asked.params.n)]
            assert all(len(output) == asked.limit for output in outputs)
            assert all(output == outputs[0] for output in outputs)
    engine.check_empty()


def test_neither_scheduler_nor_wavefront_imports_torch() -> None:
    code = (
        "import sys, loopcoder.engine.scheduler, loopcoder.engine.wavefront;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _engine(**changes: object) -> SymbolicEngine:
    settings = {"pages": 200, "page_size": 4, "slots": 4, "rows": 16}
    return SymbolicEngine(tiny_config(2, 3), **{**settings, **changes})


def _run(engine: SymbolicEngine) -> int:
    steps = 0
    while engine.busy:
        engine.step()
        steps += 1
        assert steps < 10_000
    return steps


def test_times_are_in_order() -> None:
    engine = _engine(slots=2)
    for number in range(6):
        engine.scheduler.add(request(str(number), [number % 3] * 9, loops=2, limit=3))
    _run(engine)
    assert len(engine.finished) == 6
    for sequence in engine.finished:
        times = sequence.times
        assert times.arrived < times.admitted < times.first_token < times.finished
    admitted = [s.times.admitted for s in sorted(engine.finished, key=lambda s: s.order)]
    assert admitted == sorted(admitted)


def test_an_abort_in_the_queue_has_no_admission_time() -> None:
    engine = _engine(slots=1)
    engine.scheduler.add(request("0", [1] * 9, loops=2, limit=3))
    engine.scheduler.add(request("1", [1] * 9, loops=2, limit=3))
    engine.step()
    (stopped,) = engine.scheduler.abort("1")
    assert stopped.times.admitted is None
    assert stopped.times.finished is not None
    _run(engine)
    engine.check_empty()


@pytest.mark.parametrize("moment", range(12))
@pytest.mark.parametrize("n", [1, 3])
def test_abort_at_every_moment_leaves_nothing(moment: int, n: int) -> None:
    engine = _engine(slots=2, rows=5)
    engine.scheduler.add(request("0", [0, 1, 2] * 4, loops=3, limit=4, n=n))
    engine.scheduler.add(request("1", [0, 1, 2] * 3, loops=2, limit=4))
    for _ in range(moment):
        engine.step()
    engine.scheduler.abort("0")
    engine.scheduler.check_integrity()
    assert all(s.name[0] == "1" for s in engine.scheduler.running)
    _run(engine)
    assert len(engine.outputs["1", 0]) == 4
    engine.check_empty()


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("moment", range(14))
def test_what_an_aborted_request_leaves_for_reuse_is_exact(moment: int, serial: bool) -> None:
    """Between the loops of a token, too, where the later ones are not as far as the first."""
    engine = _engine(rows=6, serial=serial)
    for number in range(2):
        engine.scheduler.add(request(str(number), [0, 1, 2, 0, 1], loops=3, limit=20))
    for _ in range(moment):
        engine.step()
    for number, (stopped,) in enumerate([engine.scheduler.abort("0"), engine.scheduler.abort("1")]):
        more = [*stopped.tokens, 1, 2]
        engine.scheduler.add(request(f"more {number}", more, loops=3, limit=3))
    _run(engine)
    assert len(engine.finished) == 2
    engine.check_empty()


@pytest.mark.parametrize("rows", [2, 3, 5])
@pytest.mark.parametrize("serial", [False, True])
def test_nobody_starves_while_others_keep_arriving(rows: int, serial: bool) -> None:
    """Equal requests end in order of arrival, but for those that run beside each other."""
    engine = _engine(slots=3, rows=rows, serial=serial, reuse=False)
    for number in range(300):
        if number % 2 == 0:
            engine.scheduler.add(request(str(number), [number % 3] * 7, loops=2, limit=3))
        engine.step()
    orders = [sequence.order[0] for sequence in engine.finished]
    assert len(orders) > 10
    assert all(abs(order - place) <= 3 for place, order in enumerate(orders))


@pytest.mark.parametrize("rows", [2, 4, 8])
def test_a_long_prompt_is_not_overtaken_for_ever(rows: int) -> None:
    """Short requests that keep arriving do not hold up one that came first."""
    engine = _engine(slots=3, rows=rows, reuse=False)
    engine.scheduler.add(request("long", [0, 1] * 40, loops=2, limit=8))
    steps = 0
    while ("long", 0) not in {s.name for s in engine.finished}:
        engine.scheduler.add(request(str(steps), [2], loops=2, limit=2))
        engine.step()
        steps += 1
        # Its own rows, were it alone with one row of each step, and once more for the others.
        assert steps <= 2 * (2 * 88)


def test_all_that_decode_are_served_when_rows_suffice() -> None:
    engine = _engine(slots=4, rows=16)
    for number, loops in enumerate([1, 2, 3, 4]):
        engine.scheduler.add(request(str(number), [number % 3] * 4, loops=loops, limit=20))
    while any(s.prefilling or not s.generated for s in engine.scheduler.running) or (
        engine.scheduler.waiting
    ):
        engine.step()
    for _ in range(5):
        assert {span.sequence for span in engine.step()} == set(engine.scheduler.running)


def _decoding(engine: SymbolicEngine, number: int) -> None:
    """`number` sequences at two loops that have read their prompts and write for long."""
    for name in range(number):
        engine.scheduler.add(request(f"talk {name}", [name % 3], loops=2, limit=100))
    while len(engine.outputs) < number:
        engine.step()


def test_those_that_decode_take_turns_when_rows_do_not_suffice() -> None:
    engine = _engine(slots=6, rows=4)
    _decoding(engine, 6)
    for _ in range(5):
        served = [span.sequence for _ in range(3) for span in engine.step() if span.loop == 0]
        assert sorted(s.order for s in served) == [s.order for s in engine.scheduler.running]


def test_a_prompt_gets_a_share_of_rows_that_are_all_wanted() -> None:
    engine = _engine(slots=5, rows=8)
    _decoding(engine, 4)
    engine.scheduler.add(request("read", [0, 1, 2] * 8, loops=2, limit=1))
    steps = 0
    while ("read", 0) not in engine.outputs:
        rows = {span.sequence.name[0]: span.rows for span in engine.step()}
        assert "read" in rows
        assert len(rows) == 4  # three of the four that decode, and the prompt
        steps += 1
    assert steps <= 24  # two of the eight rows: 24 of loop 1, 7 of loop 2


def test_decoding_goes_on_beside_a_long_prompt() -> None:
    """Each step serves the decoding sequence, and the prompt gets a share of the rows."""
    engine = _engine(slots=2, rows=8)
    engine.scheduler.add(request("talk", [1], loops=2, limit=30))
    while not engine.outputs:
        engine.step()
    engine.scheduler.add(request("read", [0, 1, 2] * 20, loops=2, limit=1))
    while ("read", 0) not in engine.outputs and ("talk", 0) not in {
        s.name for s in engine.finished
    }:
        names = {span.sequence.name[0] for span in engine.step()}
        assert names == {"talk", "read"}


def test_a_full_memory_preempts_the_latest_and_loses_nothing() -> None:
    roomy, tight = _engine(pages=200), _engine(pages=20)
    for engine in (roomy, tight):
        for number in range(6):
            prompt = [number % 3, number // 3, 1, 2, 0] * 2
            engine.scheduler.add(request(str(number), prompt, loops=1 + number % 3, limit=14))
        _run(engine)
        engine.check_empty()
    assert tight.scheduler.preemptions > 0
    assert roomy.scheduler.preemptions == 0
    assert tight.outputs == roomy.outputs


def test_a_request_that_can_never_fit_is_refused_with_the_numbers() -> None:
    engine = _engine(pages=10, page_size=4)
    fits = request("0", [0] * 30, loops=3, limit=2)  # 8 pages and a ring of one for each of 2 loops
    with pytest.raises(RequestError, match=r"33 tokens .* 3 loops need 11 pages .* there are 10"):
        engine.scheduler.add(request("1", [0] * 30, loops=3, limit=3))
    engine.scheduler.add(fits)
    _run(engine)
    assert len(engine.outputs["0", 0]) == 2
    with pytest.raises(RequestError, match="loops is 4, and a step has 3 rows"):
        _engine(rows=3).scheduler.add(request("2", [0], loops=4, limit=1))


def test_a_request_that_just_fits_runs_whatever_is_kept_for_reuse() -> None:
    """What the prefix index holds must make way, the snapshot that it would use included."""
    engine = _engine(pages=6, page_size=4, slots=1)
    engine.scheduler.add(request("0", [0, 1, 2, 0, 1, 2, 0, 1, 2], loops=3, limit=2))
    _run(engine)
    told = engine.finished[0].tokens
    longer = [*told, 1, 1, 1]
    engine.scheduler.add(request("1", longer, loops=3, limit=16 - len(longer)))
    _run(engine)
    assert len(engine.outputs["1", 0]) == 16 - len(longer)
    engine.check_empty()


def test_continuations_wait_for_slots_in_order_of_arrival() -> None:
    engine = _engine(slots=2)
    engine.scheduler.add(request("0", [0, 1, 2], loops=2, limit=3, n=5))
    while not engine.outputs:
        engine.step()
    engine.scheduler.add(request("1", [1, 1, 2], loops=2, limit=3))
    while engine.busy:
        engine.step()
        waiting = {s.name[0] for s in engine.scheduler.waiting}
        assert "0" not in waiting or "1" in waiting, "a later request went first"
    assert [engine.outputs["0", i] for i in range(5)] == [engine.outputs["0", 0]] * 5


def test_reuse_is_counted() -> None:
    engine = _engine(page_size=4)
    prompt = [0, 1, 2, 0, 2, 1, 1]
    for name in ("first", "second"):
        engine.scheduler.add(request(name, prompt, loops=1, limit=1))
        _run(engine)
    ledger = engine.scheduler.ledger
    assert (ledger.asked, ledger.hit) == (14, 4)
    assert [s.cached for s in engine.finished] == [0, 4]
