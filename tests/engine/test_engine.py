"""The engine against the serial oracle: batches, chunks, tails, reuse, continuations."""

from functools import cache
from random import Random

import pytest
import torch

from loopcoder.engine.core import Engine
from loopcoder.engine.sequence import Request
from loopcoder.model.plt import PLT
from loopcoder.types import RequestOutput
from tests.engine.helpers import (
    TOLERANCE,
    ask,
    check_against_oracle,
    check_empty,
    finish,
    oracle_logprobs,
    random_prompt,
    small_engine,
    small_plt,
    token_ids,
)


@cache
def model(dtype: torch.dtype = torch.float64) -> PLT:
    return small_plt(dtype)


def _mixed(number: int, seed: int = 0, longest: int = 60, **params: object) -> list[Request]:
    """Prompts of 1 to `longest` tokens at 1 to 4 loops."""
    random = Random(seed)
    return [
        ask(name, random_prompt(random, random.randint(1, longest)), loops=1 + name % 4, **params)
        for name in range(number)
    ]


def _first_logprobs(outputs: dict[str, RequestOutput]) -> dict[str, torch.Tensor]:
    """Log-probabilities of the first generated token, all of them: the prompt's last logits."""
    found = {}
    for name, output in outputs.items():
        (seen, *_) = output.outputs[0].logprobs
        found[name] = torch.tensor([seen[token].logprob for token in range(len(seen))])
    return found


def _same_logits(one: dict[str, RequestOutput], two: dict[str, RequestOutput]) -> None:
    assert token_ids(one) == token_ids(two)
    first, second = _first_logprobs(one), _first_logprobs(two)
    for name, logp_V in first.items():
        assert len(logp_V) == 256
        torch.testing.assert_close(logp_V, second[name], atol=1e-5, rtol=0)


def test_500_prompts_equal_the_serial_oracle_in_float32() -> None:
    """The fast kernels: 32 sequences beside each other, loops 1 to 4, chunked prompts."""
    requests = _mixed(500, longest=100, max_tokens=12)
    engine = small_engine(model(torch.float32), pages=1200, slots=32, rows=256)
    outputs = finish(engine, requests)
    assert engine.scheduler.steps < 1000
    check_against_oracle(model(torch.float32), requests, outputs)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("reach", [0, 1, 4, 9])
@pytest.mark.parametrize("page_size", [1, 3, 8])
def test_shapes_equal_the_oracle(layers: int, reach: int, page_size: int) -> None:
    plt = small_plt(num_hidden_layers=layers, plt_window_size=[reach, 0])
    requests = _mixed(12, seed=reach)
    engine = small_engine(plt, page_size=page_size, pages=1200 // page_size, rows=23)
    check_against_oracle(plt, requests, finish(engine, requests))
    check_empty(engine)


@pytest.mark.parametrize(
    "fields",
    [
        {"plt_gate_use_hidden_states": False},
        {"plt_normalize_per_loop": False},
        {"tie_word_embeddings": True},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_model_options_equal_the_oracle(fields: dict[str, object]) -> None:
    # Without the norm between loops the states grow; a small factor keeps them from exploding.
    plt = small_plt(**{"plt_hidden_scale": 0.05, **fields})
    requests = _mixed(12)
    check_against_oracle(plt, requests, finish(small_engine(plt, rows=23), requests))


def test_a_batch_equals_one_by_one() -> None:
    requests = _mixed(16)
    together = finish(small_engine(model(), slots=16), requests)
    alone = {}
    for request in requests:
        alone |= finish(small_engine(model(), reuse=False), [request])
    assert token_ids(together) == token_ids(alone)
    check_against_oracle(model(), requests, together)


@pytest.mark.parametrize("rows", [4, 7, 64])
@pytest.mark.parametrize("tail", [True, False])
def test_the_serial_schedule_gives_the_same(rows: int, tail: bool) -> None:
    requests = _mixed(12, logprobs=-1)
    serial = finish(small_engine(model(), rows=rows, tail=tail, serial=True), requests)
    _same_logits(serial, finish(small_engine(model()), requests))


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 6, 7, 8, 11, 16, 32, 100, 200])
def test_tail_prefill_equals_full_prefill_in_chunks_of_every_size(rows: int) -> None:
    """The full distribution after the prompt, to 1e-5: the tail is as exact as all of it."""
    random = Random(rows)
    requests = [
        ask(length, random_prompt(random, length), loops=loops, logprobs=-1, max_tokens=3)
        for length, loops in ((1, 1), (2, 2), (9, 2), (10, 2), (30, 2), (64, 2), (33, 3), (80, 4))
        if loops <= rows
    ]
    tail, full = small_engine(model(), rows=rows), small_engine(model(), rows=rows, tail=False)
    outputs = finish(tail, requests)
    _same_logits(outputs, finish(full, requests))
    check_against_oracle(model(), requests, outputs)
    ran, all_rows = (engine.stats()["prefill_rows"] for engine in (tail, full))
    assert ran[1] == all_rows[1] == sum(len(r.prompt_token_ids) for r in requests)
    assert ran[2] < all_rows[2]


def test_rows_of_a_known_case() -> None:
    """Window 5, 2 layers: 4 * 2 + 1 rows of the last loop, 9 more for each loop before it."""
    engine = small_engine(model(), reuse=False)
    finish(engine, [ask(0, [5] * 40, loops=3, max_tokens=4)])
    stats = engine.stats()
    assert stats["prefill_rows"] == {1: 40, 2: 18, 3: 9}
    assert stats["rows"] == {1: 43, 2: 21, 3: 12}  # 3 decode steps: the last token is not run
    assert (stats["prompt_tokens"], stats["generated_tokens"]) == (40, 4)


def _conversation(engine: Engine, loops: int, turns: int = 3) -> tuple[list[Request], dict]:
    """Each prompt is the one before, its answer, and more."""
    random, text = Random(loops), random_prompt(Random(9), 37)
    requests, outputs = [], {}
    for turn in range(turns):
        requests.append(ask(f"{loops}-{turn}", text, loops=loops, logprobs=-1))
        outputs |= finish(engine, [requests[-1]])
        text = [*text, *outputs[f"{loops}-{turn}"].outputs[0].token_ids, *random_prompt(random, 9)]
    return requests, outputs


@pytest.mark.parametrize("loops", [1, 2, 3, 4])
def test_a_conversation_is_not_read_again(loops: int) -> None:
    """The later loops go on from their states at the end of the answer: exactly."""
    engine, plain = small_engine(model()), small_engine(model(), reuse=False)
    requests, outputs = _conversation(engine, loops)
    _same_logits(outputs, _conversation(plain, loops)[1])
    check_against_oracle(model(), requests, outputs)
    lengths = [len(request.prompt_token_ids) for request in requests]
    # The last generated token was never run, and one loop starts at a full page.
    step = 4 if loops == 1 else 1
    expected = [0, *(length - 10 for length in lengths[1:])]
    cached = [outputs[r.request_id].num_cached_tokens for r in requests]
    assert cached == [tokens // step * step for tokens in expected]
    stats = engine.stats()
    assert (stats["prefix_tokens_asked"], stats["prefix_tokens_hit"]) == (sum(lengths), sum(cached))
    assert plain.stats()["prefix_tokens_hit"] == 0


@pytest.mark.parametrize("loops", [1, 2, 3])
@pytest.mark.parametrize("rows", [5, 64])
def test_a_shared_beginning_is_read_once_and_changes_nothing(loops: int, rows: int) -> None:
    """Prompts part after 61 tokens. The second runs the tail before that point, later ones not."""
    random = Random(loops)
    shared = random_prompt(random, 61)
    requests = [
        ask(n, shared + random_prompt(random, 3 + 5 * n), loops=loops, logprobs=-1)
        for n in range(5)
    ]
    engine = small_engine(model(), rows=rows)
    outputs = {}
    for request in requests:
        outputs |= finish(engine, [request])
    _same_logits(outputs, finish(small_engine(model(), reuse=False), requests))
    check_against_oracle(model(), requests, outputs)
    cached = [outputs[str(n)].num_cached_tokens for n in range(5)]
    tail = 0 if loops == 1 else 9 * (loops - 1) + 1 - 3  # what 3 more tokens leave of it
    assert cached[0] == 0
    assert 60 - 9 * (loops - 1) - 1 <= cached[1] <= 60 - max(0, tail - 10)
    assert cached[2:] == [60, 60, 60]
    check_empty(engine)


def test_known_keys_are_read_and_never_written() -> None:
    """Loop 1 runs its tail before a branch again; others may be reading those pages."""
    random = Random(0)
    shared = random_prompt(random, 60)
    engine = small_engine(model(), rows=16)
    finish(engine, [ask("one", shared + random_prompt(random, 5))])
    ledger = engine.scheduler.ledger
    known = ledger.index.match(shared, 1, 60).pages
    before = engine.memory.pool[:, :, known].clone()
    finish(engine, [ask("two", [*shared, 1])])
    assert 0 < engine.stats()["prefix_tokens_hit"] < 60
    assert ledger.index.match(shared, 1, 60).pages == known
    assert torch.equal(engine.memory.pool[:, :, known], before)


def test_loop_counts_share_pages_but_not_states() -> None:
    prompt = random_prompt(Random(1), 50)
    engine = small_engine(model())
    requests = [ask(n, prompt, loops=loops) for n, loops in enumerate([1, 2, 3, 1, 2, 3, 4])]
    outputs = {}
    for request in requests:
        outputs |= finish(engine, [request])
    check_against_oracle(model(), requests, outputs)
    assert engine.stats()["prefix_tokens_hit"] > 0


def test_requests_at_once_with_a_shared_beginning() -> None:
    random = Random(4)
    shared = random_prompt(random, 30)
    requests = [
        ask(n, shared[: random.randint(1, 30)] + random_prompt(random, random.randint(1, 9)))
        for n in range(24)
    ]
    engine = small_engine(model(), slots=6)
    check_against_oracle(model(), requests, finish(engine, requests))
    assert engine.stats()["prefix_tokens_hit"] > 0
    check_empty(engine)


@pytest.mark.parametrize("slots", [1, 2, 8])
@pytest.mark.parametrize("loops", [1, 2, 3])
def test_continuations_of_a_prompt(slots: int, loops: int) -> None:
    """Greedy ones are equal; drawn ones differ, are reproducible, and the same run alone."""
    prompt = random_prompt(Random(3), 30)
    greedy = ask("greedy", prompt, loops=loops, n=4)
    drawn = [
        ask(name, prompt, loops=loops, n=4, temperature=1.0, seed=5) for name in ("one", "two")
    ]
    engine = small_engine(model(), slots=slots)
    outputs = finish(engine, [greedy, *drawn])
    check_against_oracle(model(), [greedy], outputs)
    tokens = token_ids(outputs)
    assert tokens["greedy"] == [tokens["greedy"][0]] * 4
    assert tokens["one"] == tokens["two"]
    assert len({tuple(each) for each in tokens["one"]}) == 4
    assert token_ids(finish(small_engine(model()), [drawn[0]]))["one"] == tokens["one"]
    assert [o.index for o in outputs["one"].outputs] == [0, 1, 2, 3]
    check_empty(engine)


@pytest.mark.parametrize("loops", [1, 2, 3])
@pytest.mark.parametrize("rows", [5, 16, 200])
def test_prompt_logprobs_equal_the_oracles_at_every_position(loops: int, rows: int) -> None:
    """Chunked or not, and although the prompt is known already."""
    prompt = random_prompt(Random(2), 45)
    (logp_TV,) = oracle_logprobs(model(), [prompt], loops)
    engine = small_engine(model(), rows=rows)
    for name in ("new", "known"):
        output = finish(engine, [ask(name, prompt, loops=loops, prompt_logprobs=3, n=2)])[name]
        assert output.prompt_logprobs is not None
        first, *rest = output.prompt_logprobs
        assert first is None
        assert len(rest) == 44
        for position, seen in enumerate(rest):
            own = seen[prompt[position + 1]].logprob
            assert own == pytest.approx(float(logp_TV[position, prompt[position + 1]]), abs=1e-4)
            best = [float(x) for x in logp_TV[position].topk(3).values]
            found = sorted((each.logprob for each in seen.values()), reverse=True)[:3]
            assert found == pytest.approx(best, abs=1e-4)
        finish(engine, [ask(name + " without", prompt, loops=loops)])
    check_empty(engine)


def test_bfloat16_runs_and_stays_near_float32() -> None:
    """One layer and one step: what rounding to 8 bits leaves."""
    plt = small_plt(torch.bfloat16, num_hidden_layers=1, plt_hidden_scale=0.05)
    exact = small_plt(torch.float32, num_hidden_layers=1, plt_hidden_scale=0.05)
    requests = _mixed(16, logprobs=-1, max_tokens=1)
    rough = _first_logprobs(finish(small_engine(plt), requests))
    fine = _first_logprobs(finish(small_engine(exact), requests))
    for name, logp_V in rough.items():
        assert float((logp_V - fine[name]).abs().mean()) < 0.2


def test_tolerances_are_those_of_the_formats() -> None:
    """A request that misses one state of a later loop is far outside of them."""
    requests = [ask(0, random_prompt(Random(0), 30), loops=2)]
    outputs = finish(small_engine(model(torch.float32)), requests)
    wrong = small_plt(torch.float32, plt_hidden_scale=0.09)
    with pytest.raises(AssertionError):
        check_against_oracle(wrong, requests, outputs)
    assert TOLERANCE[torch.float32] < 0.01
