"""The engine when memory is short, requests go away, or the weights are broken."""

from functools import cache
from random import Random

import pytest
import torch

from loopcoder.engine.core import Engine
from loopcoder.errors import RequestError
from loopcoder.model.plt import PLT
from tests.engine.helpers import (
    ask,
    check_against_oracle,
    check_empty,
    finish,
    random_prompt,
    small_engine,
    small_plt,
    token_ids,
)
from tests.engine.symbolic import FakeClock


@cache
def model() -> PLT:
    return small_plt()


@pytest.mark.parametrize("serial", [False, True])
def test_preemption_gives_the_text_of_ample_memory(serial: bool) -> None:
    """Drawn tokens as well: a sequence that comes back goes on with its own random stream."""
    random = Random(0)
    requests = [
        ask(
            n,
            random_prompt(random, random.randint(1, 20)),
            loops=1 + n % 4,
            max_tokens=30,
            temperature=n % 2,
            seed=n,
        )
        for n in range(12)
    ]
    tight = small_engine(model(), pages=26, serial=serial)
    outputs = finish(tight, requests)
    assert tight.stats()["preemptions"] > 3
    roomy = small_engine(model())
    assert token_ids(outputs) == token_ids(finish(roomy, requests))
    assert roomy.stats()["preemptions"] == 0
    check_against_oracle(model(), [r for r in requests if not r.params.temperature], outputs)
    check_empty(tight)


def test_preemption_of_continuations_and_of_prompt_logprobs() -> None:
    prompt = random_prompt(Random(1), 21)
    requests = [
        ask("first", prompt, max_tokens=30),
        ask("several", prompt, n=3, temperature=1.0, seed=1, max_tokens=20),
        ask("scored", prompt, prompt_logprobs=0, max_tokens=20),
    ]
    tight = small_engine(model(), pages=18)
    outputs = finish(tight, requests)
    assert tight.stats()["preemptions"] > 0
    alone = finish(small_engine(model()), requests)
    assert token_ids(outputs) == token_ids(alone)
    scored = [each["scored"].prompt_logprobs for each in (outputs, alone)]
    assert len(scored[0]) == len(scored[1]) == 21
    for mine, its in zip(scored[0][1:], scored[1][1:], strict=True):
        assert mine.keys() == its.keys()
        for token in mine:
            assert mine[token].logprob == pytest.approx(its[token].logprob, abs=1e-5)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 9, 14])
@pytest.mark.parametrize("n", [1, 3])
def test_abort_gives_what_there_is_and_leaves_nothing(steps: int, n: int) -> None:
    engine = small_engine(model(), rows=7)
    stays = ask("stays", random_prompt(Random(1), 20))
    goes = ask("goes", random_prompt(Random(2), 20), n=n, temperature=0.0, max_tokens=20)
    whole = token_ids(finish(small_engine(model()), [goes]))["goes"][0]
    engine.add(goes)
    engine.add(stays)
    for _ in range(steps):
        engine.step()
    output = engine.abort("goes")
    assert output is not None
    assert len(output.outputs) == n
    for each in output.outputs:
        assert each.finish_reason == "abort"
        assert each.token_ids == whole[: len(each.token_ids)]
    assert engine.abort("goes") is None
    check_against_oracle(model(), [stays], finish(engine))
    check_empty(engine)


@pytest.mark.parametrize("seed", range(8))
def test_random_schedules_of_200_steps(seed: int) -> None:
    """Arrivals, aborts and mixed loop counts; integrity after every step, then the oracle."""
    random = Random(seed)
    plt = small_plt(num_hidden_layers=random.randint(1, 2), plt_window_size=[seed % 5, 0])
    page_size = random.randint(1, 5)
    engine = small_engine(
        plt,
        page_size=page_size,
        pages=(110 + random.choice([5, 60])) // page_size + 24 // page_size,
        slots=4,
        rows=random.choice([4, 9, 16, 64]),
        tail=random.random() < 0.8,
        serial=random.random() < 0.3,
    )
    shared, requests, outputs = random_prompt(random, 60), {}, {}
    for step in range(200):
        if random.random() < 0.2:
            prompt = shared[: random.choice([0, 10, 40, 60])]
            prompt += random_prompt(random, random.randint(1, 30))
            loops, n = random.randint(1, 4), random.choice([1, 1, 2])
            limit = random.randint(1, 12)
            asked = ask(step, prompt, loops=loops, n=n, max_tokens=limit)
            requests[asked.request_id] = asked
            engine.add(asked)
        if requests and random.random() < 0.05:
            name = random.choice(list(requests))
            if engine.abort(name) is not None:
                del requests[name]
        for update in engine.step():
            if update.output is not None:
                outputs[update.request_id] = update.output
        engine.scheduler.check_integrity()
    outputs |= finish(engine)
    check_against_oracle(plt, requests.values(), outputs)
    check_empty(engine)


def test_a_request_that_can_never_fit_is_refused_before_it_runs() -> None:
    engine = small_engine(model(), pages=10)
    with pytest.raises(RequestError, match=r"need 12 pages of 4 tokens \(2 of them .* are 10"):
        engine.add(ask(0, [1] * 32))
    assert not engine.busy
    check_empty(engine)


def test_times_by_the_engines_clock() -> None:
    engine = small_engine(model(), slots=1, clock=FakeClock())
    times = {}
    for name in "ab":
        engine.add(ask(name, [1, 2, 3], max_tokens=2))
    while engine.busy:
        for update in engine.step():
            times[update.request_id] = update.times
    a, b = times["a"], times["b"]
    assert a.arrived < b.arrived < a.admitted < a.first_token < a.finished < b.admitted
    assert b.admitted < b.first_token < b.finished


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("call", range(1, 15, 2))
@pytest.mark.parametrize("serial", [False, True])
def test_a_step_that_breaks_off_is_made_up_for(layer: int, call: int, serial: bool) -> None:
    """What it had already written, of windows above all, is not taken for what was there."""
    random, calls = Random(call), []
    requests = [
        ask(
            n,
            random_prompt(random, length),
            loops=loops,
            n=n % 2 + 1,
            prompt_logprobs=n % 3 or None,
        )
        for n, (length, loops) in enumerate(((50, 3), (9, 2), (30, 4), (5, 1)))
    ]
    plt = small_plt()
    engine = small_engine(plt, rows=12, serial=serial)

    def break_off(*_: object) -> None:
        calls.append(None)
        if len(calls) == call:
            raise RuntimeError("out of memory")

    plt.model.layers[layer].register_forward_hook(break_off)
    for request in requests:
        engine.add(request)
    with pytest.raises(RuntimeError, match="out of memory"):
        finish(engine)
    engine.scheduler.check_integrity()
    check_against_oracle(model(), requests, finish(engine))
    check_empty(engine)


BROKEN = 77


@cache
def broken_model() -> PLT:
    """One token's embedding is not a number."""
    plt = small_plt()
    with torch.no_grad():
        plt.model.embed_tokens.weight[BROKEN] = float("nan")
        # Never chosen: where it does not stand in a prompt, everything is as before.
        plt.lm_head.weight[BROKEN] = 0
    return plt


def _clean(random: Random, length: int) -> list[int]:
    return [token if token != BROKEN else 0 for token in random_prompt(random, length)]


def _broken(random: Random, length: int) -> list[int]:
    prompt = _clean(random, length)
    prompt[random.randrange(length)] = BROKEN
    return prompt


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_token_that_gives_nan_ends_its_own_requests_alone(
    reuse: bool, dtype: torch.dtype
) -> None:
    """Beside each other, and afterwards in memory that held what is not a number."""
    random = Random(0)
    plt = broken_model() if dtype == torch.float64 else _in_float32()
    engine = small_engine(plt, pages=60, slots=6, rows=16, reuse=reuse)
    requests = []
    for n in range(30):
        prompt = (_broken if n % 3 == 1 else _clean)(random, random.randint(1, 25))
        requests.append(ask(n, prompt, loops=1 + n % 4, n=1 + n % 2))
    outputs = finish(engine, requests)
    for request in requests:
        error = BROKEN in request.prompt_token_ids
        for output in outputs[request.request_id].outputs:
            assert output.finish_reason == ("error" if error else "length")
            assert bool(output.token_ids) != error
    check_against_oracle(plt, [r for r in requests if BROKEN not in r.prompt_token_ids], outputs)
    check_empty(engine)


def _in_float32() -> PLT:
    plt = small_plt(torch.float32)
    with torch.no_grad():
        plt.model.embed_tokens.weight[BROKEN] = float("nan")
        plt.lm_head.weight[BROKEN] = 0
    return plt


@pytest.mark.parametrize("loops", [1, 2, 3])
@pytest.mark.parametrize("moment", range(8))
def test_nan_is_not_kept_for_prompts_that_begin_alike(loops: int, moment: int) -> None:
    """Neither by a request that ends with an error, nor by one that is aborted on its way."""
    random = Random(moment)
    plt = broken_model()
    shared = _clean(random, 24)
    engine = small_engine(plt, rows=8)
    finish(engine, [ask("before", shared[:13] + _clean(random, 4), loops=loops)])
    engine.add(ask("broken", [*shared, BROKEN, *_clean(random, 5)], loops=loops))
    for _ in range(moment):
        engine.step()
    after = [ask(f"after {n}", shared + _clean(random, 3 + n), loops=loops) for n in range(2)]
    if moment % 2:
        engine.abort("broken")
    outputs = finish(engine, after)
    assert [outputs[r.request_id].outputs[0].finish_reason for r in after] == ["length"] * 2
    check_against_oracle(plt, after, outputs)


@pytest.mark.parametrize("loops", [1, 2])
def test_memory_at_full_load_is_used_to_95_percent(loops: int) -> None:
    """A window of 65 keys in pages of 13: rings are full, and half a page a sequence is not."""
    plt = small_plt(plt_window_size=[64, 0], num_hidden_layers=1, max_position_embeddings=1024)
    random = Random(0)
    engine = small_engine(plt, page_size=13, pages=260, slots=16, rows=512, reuse=False)
    for n in range(16):
        prompt = random_prompt(random, random.randint(200, 330))
        engine.add(ask(n, prompt, loops=loops, max_tokens=600))
    while not engine.scheduler.preemptions:  # memory has run out for once
        engine.step()
        shares = _used_share(engine)
    assert engine.scheduler.running
    assert shares >= 0.95
    for n in range(16):
        engine.abort(str(n))
    check_empty(engine)


def _used_share(engine: Engine) -> float:
    """Tokens stored, the windows included, over the slots of the pages that sequences hold."""
    scheduler, window = engine.scheduler, engine.model.config.window
    used = sum(s.done[0] + sum(min(window, done) for done in s.done[1:]) for s in scheduler.running)
    held = sum(len(s.holding.pages) + sum(map(len, s.holding.rings)) for s in scheduler.running)
    return used / (held * engine.memory.shape.page_size)


def test_a_short_soak_leaves_no_memory_behind() -> None:
    """200 requests, every sixth aborted: tables, states and answers do not grow."""
    random = Random(0)
    engine = small_engine(model(), pages=120, slots=6)
    sizes = []
    for part in range(4):
        names = [f"{part}-{n}" for n in range(50)]
        for name in names:
            prompt = random_prompt(random, random.randint(1, 40))
            engine.add(ask(name, prompt, loops=random.randint(1, 3), max_tokens=6))
        for name in names[::6]:
            for _ in range(random.randint(0, 4)):
                engine.step()
            engine.abort(name)
        finish(engine)
        states = engine.scheduler.keeper
        waiting = sum(len(h) for runs in states._waiting.values() for _, h in runs)
        sizes.append((len(engine._answers), engine.memory.table.shape, waiting <= 6 * 2 * 40))
    assert sizes == [sizes[0]] * 4
    assert not engine._answers
    check_empty(engine)
