"""The loop lens of the engine against its slow twin: the probes, over the text that came out.

The twin runs the whole text through every loop, one after another and without a cache, with taps
on the model. In float64; reports of probabilities and gates are float32: 1e-5, measured 1e-6.
"""

from collections.abc import Callable, Iterable
from functools import cache
from random import Random
from typing import Any

import pytest
import torch

from loopcoder import LLM, SamplingParams
from loopcoder.engine import lens
from loopcoder.engine.core import Engine
from loopcoder.engine.graphs import GraphedLayers
from loopcoder.engine.sequence import Request
from loopcoder.kernels import native
from loopcoder.model.plt import PLT
from loopcoder.probes import Taps, read_lens, read_passage, source_of
from loopcoder.records.rows import DataIdentity
from loopcoder.types import LoopLens, RequestOutput
from tests.engine.helpers import ask, finish, random_prompt, small_engine, small_plt, token_ids
from tests.small import byte_tokenizer

CLOSE = 1e-5
COUNT = 3
OPTIONS: dict[str, dict[str, object]] = {
    "hidden gate": {},
    "query gate": {"plt_gate_use_hidden_states": False},
    # Without the norm between loops the states grow; a small factor keeps them from exploding.
    "no norm": {"plt_normalize_per_loop": False, "plt_hidden_scale": 0.05},
    "three layers": {"num_hidden_layers": 3, "plt_window_size": [2, 0]},
}


@cache
def model(option: str = "hidden gate") -> PLT:
    return small_plt(**OPTIONS[option])


def _mixed(number: int, **params: object) -> list[Request]:
    """Prompts of 1 to 60 tokens at 1 to 4 loops; every third does not ask."""
    random = Random(0)
    return [
        ask(
            name,
            random_prompt(random, random.randint(1, 60)),
            loops=1 + name % 4,
            loop_lens=None if name % 3 == 2 else COUNT,
            **params,
        )
        for name in range(number)
    ]


def check_lenses(plt: PLT, requests: Iterable[Request], outputs: dict[str, RequestOutput]) -> None:
    """Every lens is the twin's, and there are none where none were asked for."""
    checked = 0
    for request in requests:
        for output in outputs[request.request_id].outputs:
            if request.params.loop_lens is None:
                assert output.loop_lens is None
                continue
            assert len(output.loop_lens) == len(output.token_ids) > 0
            _check_text(plt, request, output.token_ids, output.loop_lens)
            checked += 1
    assert checked


@torch.inference_mode()
def _check_text(plt: PLT, request: Request, chosen: list[int], lenses: list[LoopLens]) -> None:
    token_T = torch.tensor([*request.prompt_token_ids, *chosen])
    loops, count = request.loops, request.params.loop_lens
    with Taps(plt) as taps:
        plt.model(token_T[None], num_loops=loops)
    twin = read_lens(plt.lm_head, [taps.h[r][0] for r in range(1, loops + 1)], token_T)
    for number, (token, found) in enumerate(zip(chosen, lenses, strict=True)):
        t = len(request.prompt_token_ids) - 1 + number
        assert list(found.entropy) == pytest.approx(twin.entropy_RT[:, t].tolist(), abs=CLOSE)
        assert list(found.shift) == pytest.approx(twin.shift_RT[:, t].tolist(), abs=CLOSE)
        assert len(found.candidates) == loops
        for loop, seen in enumerate(found.candidates):
            own = float(twin.nats_RT[loop, t]), int(twin.rank_RT[loop, t])
            _check_candidates(seen, token, own, plt.lm_head(taps.h[loop + 1][0, t]), count)
        gate = [[float(g[0, t].mean()) for g in taps.gate[r]] for r in range(2, loops + 1)]
        assert len(found.gate) == loops - 1
        for mine, its in zip(found.gate, gate, strict=True):
            assert list(mine) == pytest.approx(its, abs=CLOSE)


def _check_candidates(
    seen: dict[int, Any], token: int, own: tuple[float, int], logits_V: torch.Tensor, count: int
) -> None:
    """The chosen token first, then the likeliest (ties within rounding aside)."""
    assert next(iter(seen)) == token
    assert seen[token].logprob == pytest.approx(-own[0], abs=CLOSE)
    assert seen[token].rank == own[1]
    logp_V = logits_V.log_softmax(-1)
    best = logp_V.topk(count).values.tolist()
    listed = sorted((each for each in seen.values() if each.rank <= count), key=lambda c: c.rank)
    assert [each.logprob for each in listed] == pytest.approx(best, abs=CLOSE)
    for candidate, each in seen.items():
        assert each.logprob == pytest.approx(float(logp_V[candidate]), abs=CLOSE)


@pytest.mark.parametrize("serial", [False, True], ids=["parallel", "serial"])
@pytest.mark.parametrize("tail", [True, False], ids=["tail", "full"])
@pytest.mark.parametrize("rows", [7, 64])
@pytest.mark.parametrize("option", OPTIONS)
def test_equals_the_probes(option: str, rows: int, tail: bool, serial: bool) -> None:
    """Loops 1 to 4 beside each other, prompts in chunks; some do not ask."""
    requests = _mixed(12, max_tokens=4)
    engine = small_engine(model(option), rows=rows, tail=tail, serial=serial)
    check_lenses(model(option), requests, finish(engine, requests))


@pytest.mark.parametrize("serial", [False, True], ids=["parallel", "serial"])
@pytest.mark.parametrize("slots", [1, 2, 8])
def test_continuations_of_a_prompt(slots: int, serial: bool) -> None:
    """Those that begin beside the first read its rows; those that wait have their own."""
    prompt = random_prompt(Random(3), 30)
    requests = [
        ask(loops, prompt, loops=loops, n=3, temperature=1.0, seed=5, loop_lens=COUNT)
        for loops in (1, 2, 3)
    ]
    outputs = finish(small_engine(model(), slots=slots, serial=serial), requests)
    assert len({tuple(each) for each in token_ids(outputs)["2"]}) == 3
    check_lenses(model(), requests, outputs)


@pytest.mark.parametrize("serial", [False, True], ids=["parallel", "serial"])
def test_preempted_sequences_go_on(serial: bool) -> None:
    requests = _mixed(12, max_tokens=30, temperature=1.0, seed=1)
    tight = small_engine(model(), pages=32, serial=serial)
    outputs = finish(tight, requests)
    assert tight.stats()["preemptions"] > 3
    check_lenses(model(), requests, outputs)


@pytest.mark.parametrize("serial", [False, True], ids=["parallel", "serial"])
@pytest.mark.parametrize("loops", [1, 2, 3])
@pytest.mark.parametrize("page_size", [1, 4])
def test_what_was_read_before(loops: int, page_size: int, serial: bool) -> None:
    """A prompt known wholly, one that goes on after it, one that parts from it."""
    random = Random(loops)
    engine = small_engine(model(), page_size=page_size, serial=serial)
    prompt = random_prompt(random, 41)
    requests, outputs = [], {}
    texts = [prompt, prompt, [*prompt, *random_prompt(random, 9)], prompt[:33], prompt]
    for name, text in enumerate(texts):
        requests.append(ask(name, text, loops=loops, loop_lens=COUNT if name else None))
        outputs |= finish(engine, requests[-1:])
    assert outputs["4"].num_cached_tokens == 40  # all but the last token, which always runs
    told = outputs["4"].outputs[0]
    following = [*prompt, *told.token_ids[:5], 7]
    requests.append(ask("answer", following, loops=loops, loop_lens=COUNT))
    outputs |= finish(engine, requests[-1:])
    assert outputs["answer"].num_cached_tokens > 0
    check_lenses(model(), requests, outputs)


def test_the_prompts_own_log_probabilities_beside_it() -> None:
    """Then every loop runs at every position, and the last rows are the same."""
    requests = _mixed(8, prompt_logprobs=1)
    check_lenses(model(), requests, finish(small_engine(model(), rows=16), requests))


@pytest.mark.parametrize("values", [1, 256 * 5, 2**16])
def test_blocks_of_tokens_are_read_alike(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens, "_VALUES", values)
    requests = _mixed(12)
    check_lenses(model(), requests, finish(small_engine(model(), slots=12), requests))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_asking_changes_nobodys_tokens(dtype: torch.dtype, temperature: float) -> None:
    """Nor a log-probability, by a single bit, of those who ask and of those beside them."""
    plt = small_plt(dtype)
    asking = _mixed(12, temperature=temperature, seed=0)
    plain = [
        ask(r.request_id, r.prompt_token_ids, loops=r.loops, temperature=temperature, seed=0)
        for r in asking
    ]
    with_lens, without = (finish(small_engine(plt), each) for each in (asking, plain))
    assert token_ids(with_lens) == token_ids(without)
    for name, output in with_lens.items():
        assert output.outputs[0].logprobs == without[name].outputs[0].logprobs


def test_who_does_not_ask_pays_nothing() -> None:
    """Rows of the head: one a token, and R - 1 more for each token under the lens."""
    plt, rows = small_plt(), []
    plt.lm_head.register_forward_hook(lambda module, inputs, y: rows.append(len(y)))
    prompts = [random_prompt(Random(n), 9) for n in range(3)]
    plain = [ask(n, prompt, loops=3) for n, prompt in enumerate(prompts)]
    finish(small_engine(plt, reuse=False), plain)
    assert sum(rows) == 3 * 8
    rows.clear()
    one = ask("asks", prompts[0], loops=3, loop_lens=1)
    finish(small_engine(plt, reuse=False), [one, *plain[1:]])
    assert sum(rows) == 3 * 8 + 8 * 2


@pytest.mark.parametrize("loops", [1, 2])
def test_hooks_are_gone_after_each_step(loops: int) -> None:
    engine = small_engine(model())
    engine.add(ask("asks", [5] * 20, loops=loops, loop_lens=1))
    while engine.busy:
        engine.step()
        assert not any(module._forward_hooks for module in engine.model.modules())


def test_a_step_that_breaks_off_leaves_no_hooks_and_begins_again() -> None:
    plt = small_plt()
    engine = small_engine(plt)
    request = ask("asks", random_prompt(Random(0), 20), loop_lens=COUNT)
    engine.add(request)
    for _ in range(3):
        engine.step()

    def interrupt(module: object, inputs: object) -> None:
        raise KeyboardInterrupt

    handle = plt.model.layers[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    handle.remove()
    assert not any(module._forward_hooks for module in plt.modules())
    outputs = finish(engine)
    check_lenses(plt, [request], outputs)


def test_every_number_of_candidates() -> None:
    """None but the chosen one; as many as there are tokens, and more."""
    prompt = random_prompt(Random(0), 12)
    requests = [ask(count, prompt, loop_lens=count, max_tokens=3) for count in (0, 1, 256, 1000)]
    outputs = finish(small_engine(model()), requests)
    sizes = {
        name: [len(seen) for each in output.outputs[0].loop_lens for seen in each.candidates]
        for name, output in outputs.items()
    }
    assert sizes["0"] == [1] * 6
    assert max(sizes["1"]) <= 2
    assert sizes["256"] == sizes["1000"] == [256] * 6


def _events(engine: Engine, request: Request) -> list[Any]:
    engine.add(request)
    events = []
    while engine.busy:
        events += [update.event for update in engine.step()]
    return events


def test_events_and_an_aborted_output_have_the_lens_of_each_token() -> None:
    request = ask("a", random_prompt(Random(0), 12), loop_lens=COUNT)
    engine = small_engine(model(), reuse=False)
    streamed = [event.loop_lens for event in _events(engine, request)]
    assert finish(engine, [request])["a"].outputs[0].loop_lens == streamed
    engine.add(request)
    for _ in range(4):
        engine.step()
    aborted = engine.abort("a").outputs[0]
    assert 0 < len(aborted.token_ids) < 8
    assert aborted.loop_lens == streamed[: len(aborted.token_ids)]


def test_candidates_have_texts_where_there_is_a_tokenizer() -> None:
    engine = small_engine(model(), tokenizer=byte_tokenizer())
    output = finish(engine, [ask("a", [5, 6], loop_lens=COUNT)])["a"].outputs[0]
    texts = byte_tokenizer().backend_tokenizer
    for each in output.loop_lens:
        for token, found in [pair for seen in each.candidates for pair in seen.items()]:
            assert found.decoded_token == texts.decode([token])


def test_nan_ends_its_request_without_a_lens_and_leaves_the_others_theirs() -> None:
    plt = small_plt()
    with torch.no_grad():
        plt.model.embed_tokens.weight[7] = float("nan")
        plt.lm_head.weight[7] = 0
    good, bad = ([5, 6, 8, 9], [5, 6, 7, 9])
    requests = [ask(n, (good, bad)[n % 2], loops=1 + n % 3, loop_lens=1) for n in range(6)]
    outputs = finish(small_engine(plt), requests)
    for number, request in enumerate(requests):
        output = outputs[request.request_id].outputs[0]
        if number % 2:
            assert (output.finish_reason, output.loop_lens) == ("error", [])
        else:
            check_lenses(plt, [request], outputs)


def test_a_passage_of_the_probes_shows_the_same() -> None:
    """As `loopcoder report` does it; its numbers have five digits."""
    prompt = random_prompt(Random(0), 12)
    output = finish(small_engine(model()), [ask("a", prompt, loops=3, loop_lens=COUNT)])["a"]
    chosen, lenses = output.outputs[0].token_ids, output.outputs[0].loop_lens
    source = source_of(
        model(), name="small", command="test", data=DataIdentity(name="x", hash="0", length=20)
    )
    row = read_passage(model(), [*prompt, *chosen], str, source, document="a", loops=3, top=COUNT)
    for token, found in zip(row.tokens[len(prompt) :], lenses, strict=True):
        assert token.shift == pytest.approx(found.shift, abs=CLOSE)
        assert token.entropy == pytest.approx(found.entropy, abs=CLOSE)
        for rank, candidates, seen in zip(
            token.rank, token.candidates, found.candidates, strict=True
        ):
            assert rank == next(iter(seen.values())).rank
            best = sorted((s for s in seen.items() if s[1].rank <= COUNT), key=lambda s: s[1].rank)
            assert [c.text for c in candidates] == [str(i) for i, _ in best]


@pytest.mark.skipif(native.library() is None, reason="the twin's attention cannot be captured")
def test_captured_steps_are_left_for_the_lens() -> None:
    """Replays call no hooks. Those beside go on being captured once nobody asks any more."""
    plain, graphed = (LLM("loopcoder-nano", dtype="float32", max_model_len=256) for _ in range(2))
    captured: list[Callable[[], object]] = []

    def again(work: Callable[[], Any]) -> Callable[[], Any]:
        captured.append(work)
        return work

    runner = graphed.engine.runner
    runner._graphed = GraphedLayers(graphed.model.model.run_layers, again)
    params = [
        SamplingParams(max_tokens=40, temperature=0),
        SamplingParams(max_tokens=10, temperature=0, loop_lens=2),
    ]
    prompts = [[5, 6, 7, 8], [9, 10]]
    wanted, found = (llm.generate(prompts, params) for llm in (plain, graphed))
    assert captured
    assert [o.outputs[0].token_ids for o in found] == [o.outputs[0].token_ids for o in wanted]
    for mine, its in zip(
        found[1].outputs[0].loop_lens, wanted[1].outputs[0].loop_lens, strict=True
    ):
        assert mine.shift == pytest.approx(its.shift, abs=CLOSE)
        assert mine.gate[0] == pytest.approx(its.gate[0], abs=CLOSE)
