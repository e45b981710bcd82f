"""`LLM` with several requests under way: streams, aborts, limits, counters."""

from collections.abc import Callable
from itertools import islice, zip_longest
from pathlib import Path

import pytest

from loopcoder import LLM, SamplingParams
from loopcoder.errors import RequestError
from tests.engine.helpers import check_empty
from tests.small import byte_tokenizer, small_model

GREEDY = SamplingParams(max_tokens=16, temperature=0.0, ignore_eos=True)
DRAWN = SamplingParams(max_tokens=16, temperature=1.0, seed=3, ignore_eos=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plt")
    small_model(plt_num_loops=2).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def llm(directory: Path) -> LLM:
    return LLM(directory)


def _tokens(llm: LLM, prompt: object, params: SamplingParams = GREEDY) -> list[int]:
    return llm.generate(prompt, params)[0].outputs[0].token_ids


def _check_idle(llm: LLM) -> None:
    assert not llm._mail
    check_empty(llm.engine)


def test_streams_read_in_turn_give_what_each_gives_alone(llm: LLM) -> None:
    prompts = ["def f(x):", "class A", [5, 6, 7]]
    alone = [_tokens(llm, prompt, DRAWN) for prompt in prompts]
    steps = llm.stats()["steps"]
    streams = [llm.stream(prompt, DRAWN) for prompt in prompts]
    events = list(zip_longest(*streams))
    assert [[e.token_id for e in each] for each in zip(*events, strict=True)] == alone
    assert llm.stats()["steps"] - steps < 3 * 18 / 2  # they shared their steps
    _check_idle(llm)


def test_generate_serves_open_streams_too(llm: LLM) -> None:
    alone, other = _tokens(llm, "open", DRAWN), _tokens(llm, "def g():")
    stream = llm.stream("open", DRAWN)
    begun = [event.token_id for event in islice(stream, 3)]
    assert _tokens(llm, "def g():") == other
    steps = llm.stats()["steps"]
    assert begun + [event.token_id for event in stream] == alone
    assert llm.stats()["steps"] == steps, "all of it had come meanwhile"
    _check_idle(llm)


@pytest.mark.parametrize("events", [1, 2, 9])
def test_closing_a_stream_stops_its_work(llm: LLM, events: int) -> None:
    stream = llm.stream("def f(x):", DRAWN)
    assert len(list(islice(stream, events))) == events
    steps = llm.stats()["steps"]
    stream.close()
    assert llm.stats()["steps"] == steps
    _check_idle(llm)


def test_a_stream_that_nobody_reads_does_nothing(llm: LLM) -> None:
    stream = llm.stream("def f(x):", GREEDY)
    assert not llm.engine.busy
    stream.close()
    _check_idle(llm)


@pytest.mark.parametrize("call", [1, 3, 4, 5, 8])
def test_an_interrupted_generate_leaves_nothing(llm: LLM, call: int) -> None:
    """Ctrl-C in the middle of a forward pass."""
    expected = _tokens(llm, "def f(x):")
    handle = llm.model.model.layers[1].register_forward_hook(_interrupting(call))
    stream = llm.stream("open", DRAWN) if call > 1 else iter(())
    events = list(islice(stream, 1))
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["def f(x):", "class A", [1, 2, 3]], DRAWN)
    handle.remove()
    assert len(llm._mail) == len(events)
    events += stream
    _check_idle(llm)
    assert _tokens(llm, "def f(x):") == expected
    assert not events or [event.token_id for event in events] == _tokens(llm, "open", DRAWN)


def test_one_bad_prompt_stops_none_from_running(llm: LLM) -> None:
    with pytest.raises(RequestError, match="outside the vocabulary"):
        llm.generate([[1, 2], [999]], GREEDY)
    assert llm.stats()["steps"] == 0
    _check_idle(llm)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.stream([]), "empty"),
        (lambda m: m.stream([256]), "256 is outside the vocabulary of 256"),
        (lambda m: m.stream("a", SamplingParams(loops=3, stop_token_ids=[900])), "900"),
        (lambda m: m.stream([1] * 256), "max_model_len is 256"),
        (lambda m: m.generate(["a"], [GREEDY, GREEDY]), "2 sampling parameters for 1"),
        (lambda m: m.generate("a", SamplingParams(logit_bias={300: 1})), "300"),
        (lambda m: m.chat([]), "no chat template"),
    ],
)
def test_bad_input_raises_at_the_call(
    llm: LLM, call: Callable[[LLM], object], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        call(llm)
    _check_idle(llm)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_num_seqs": 0}, "max_num_seqs is 0"),
        ({"max_num_batched_tokens": 2.5}, "max_num_batched_tokens is 2.5"),
        ({"kv_cache_memory_bytes": -1}, "kv_cache_memory_bytes is -1"),
        ({"kv_cache_memory_bytes": 10}, "one page of 8 tokens takes"),
        ({"prefill": "half"}, "prefill is 'half'"),
        ({"schedule": "late"}, "schedule is 'late'"),
    ],
)
def test_bad_settings_say_what_is_wrong(
    directory: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        LLM(directory, **arguments)


def test_a_request_beyond_the_memory_is_refused_with_the_numbers(directory: Path) -> None:
    """A page of 8 tokens: 2 layers x keys and values x 2 groups x 8 wide x 4 bytes = 2 KiB."""
    llm = LLM(directory, kv_cache_memory_bytes=10 * 2048)
    assert llm.stats()["kv_bytes_reserved"] == 10 * 2048
    with pytest.raises(RequestError, match=r"73 tokens .* need 11 pages .* there are 10"):
        llm.generate([[1] * 60], SamplingParams(max_tokens=13))
    assert len(_tokens(llm, [1] * 60, SamplingParams(max_tokens=12, ignore_eos=True))) == 12
    _check_idle(llm)


def test_a_seed_gives_the_same_text_whatever_else_runs(llm: LLM) -> None:
    alone = _tokens(llm, "def f(x):", DRAWN)
    others = [SamplingParams(max_tokens=5 + n, seed=n, loops=1 + n % 3) for n in range(20)]
    outputs = llm.generate(["def f(x):", *["other"] * 20], [DRAWN, *others])
    assert outputs[0].outputs[0].token_ids == alone


def test_outputs_come_in_the_order_of_prompts(llm: LLM) -> None:
    prompts = [[n, n + 1] for n in range(20)]
    limits = [SamplingParams(max_tokens=1 + (7 * n) % 13, ignore_eos=True) for n in range(20)]
    outputs = llm.generate(prompts, limits)
    assert [o.prompt_token_ids for o in outputs] == prompts
    assert [len(o.outputs[0].token_ids) for o in outputs] == [p.max_tokens for p in limits]
    assert llm.generate([], GREEDY) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"max_num_seqs": 1},
        {"max_num_batched_tokens": 3},
        {"kv_cache_memory_bytes": 8 * 2048},
        {"enable_prefix_caching": False},
        {"prefill": "full"},
        {"schedule": "serial", "max_num_seqs": 2},
    ],
    ids=str,
)
def test_settings_change_no_text(directory: Path, llm: LLM, settings: dict[str, object]) -> None:
    prompts = ["def f(x):", "class A", [5, 6, 7], "def f(x): return", "def f(x):"]
    changed = LLM(directory, **settings)
    for params in (GREEDY, DRAWN):
        each = [o.outputs[0].token_ids for o in changed.generate(prompts, params)]
        assert each == [o.outputs[0].token_ids for o in llm.generate(prompts, params)]
    _check_idle(changed)


def test_several_models_in_one_process(directory: Path, llm: LLM) -> None:
    one_loop = LLM(directory, loops=1)
    expected = [_tokens(llm, "class A"), _tokens(one_loop, "class A")]
    streams = [each.stream("class A", GREEDY) for each in (llm, one_loop)]
    events = [list(pair) for pair in zip(*streams, strict=True)]
    assert [[e.token_id for e in each] for each in zip(*events, strict=True)] == expected


def test_the_counters_of_a_known_case(llm: LLM) -> None:
    """20 tokens at 2 loops, window 5, 2 layers: loop 2 runs 4 * 2 + 1 of them."""
    params = SamplingParams(max_tokens=4, temperature=0.0, ignore_eos=True)
    llm.generate([[7] * 20], params)
    stats = llm.stats()
    assert stats["prefill_rows"] == {1: 20, 2: 9}
    assert stats["rows"] == {1: 23, 2: 12}
    assert (stats["prompt_tokens"], stats["generated_tokens"]) == (20, 4)
    assert (stats["prefix_tokens_asked"], stats["prefix_tokens_hit"]) == (20, 0)
    assert (stats["kv_bytes_in_use"], stats["running"], stats["waiting"]) == (0, 0, 0)
    # Kept: 2 full pages of the 23 tokens, the third in part, a ring; and at the prompt's end, a
    # ring and a page in part.
    assert stats["kv_bytes_cached"] == 6 * 2048
    output = llm.generate([[7] * 20], params)[0]
    assert llm.stats()["prefix_tokens_hit"] == output.num_cached_tokens > 0


def test_memory_in_use_while_a_stream_is_open(llm: LLM) -> None:
    stream = llm.stream([7] * 20, GREEDY)
    next(stream)
    stats = llm.stats()
    assert stats["running"] == 1
    assert stats["kv_bytes_in_use"] == 4 * 2048  # 3 pages of tokens, 1 of the ring
    stream.close()
    assert llm.stats()["kv_bytes_in_use"] == 0


def _interrupting(call: int) -> Callable[..., None]:
    calls = []

    def interrupt(*_: object) -> None:
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt

    return interrupt
