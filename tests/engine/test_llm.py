"""`LLM` on a real checkpoint directory: text, tokens, stops, limits, errors."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from loopcoder import LLM, LoopCoderError, SamplingParams
from loopcoder.errors import ModelNotFoundError, RequestError
from tests.small import byte_tokenizer, small_model

TOKENIZER = byte_tokenizer()

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"


def _checkpoint(
    directory: Path, tokenizer: PreTrainedTokenizerFast | None, **fields: object
) -> Path:
    small_model(**fields).save_pretrained(directory)
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _checkpoint(tmp_path_factory.mktemp("plt"), TOKENIZER, plt_num_loops=3)


@pytest.fixture(scope="module")
def llm(directory: Path) -> LLM:
    return LLM(directory)


GREEDY = SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True)


@pytest.mark.parametrize("loops", [1, 2, 3])
def test_greedy_equals_the_serial_oracle(directory: Path, llm: LLM, loops: int) -> None:
    """24 tokens, each the oracle's argmax after all tokens before it, without a cache."""
    output = LLM(directory, loops=loops).generate("def f(x):", GREEDY)[0]
    tokens = output.prompt_token_ids + output.outputs[0].token_ids
    logits = llm.model(torch.tensor([tokens]), num_loops=loops).logits[0]
    start = len(output.prompt_token_ids) - 1
    assert logits.argmax(-1)[start:-1].tolist() == output.outputs[0].token_ids


def test_schedules_agree(directory: Path, llm: LLM) -> None:
    serial = LLM(directory, schedule="serial")
    prompts = ["def f(x):", "class A", [5, 6, 7]]
    for a, b in zip(llm.generate(prompts, GREEDY), serial.generate(prompts, GREEDY), strict=True):
        assert a.outputs[0].token_ids == b.outputs[0].token_ids


def test_all_loops_of_a_token_run_in_one_pass(llm: LLM) -> None:
    """A decode step calls each linear layer once, with R rows (SPEC.md section 2)."""
    rows = []
    handle = llm.model.model.layers[0].self_attn.o_proj.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].shape[0])
    )
    llm.generate([[4, 5, 6, 7]], SamplingParams(max_tokens=4, temperature=0.0, ignore_eos=True))
    handle.remove()
    assert rows == [4, 4, 4, 3, 3, 3]


def test_outputs_are_complete(llm: LLM) -> None:
    one, two = llm.generate(["ab", [1, 2, 3]], [GREEDY, SamplingParams(max_tokens=1)])
    assert one.prompt == "ab"
    assert two.prompt is None
    assert two.prompt_token_ids == [1, 2, 3]
    assert len(one.outputs[0].token_ids) == 24
    assert one.outputs[0].finish_reason == two.outputs[0].finish_reason == "length"
    assert one.outputs[0].text == TOKENIZER.decode(one.outputs[0].token_ids)


def test_stream_is_generate_in_pieces(llm: LLM) -> None:
    params = SamplingParams(max_tokens=30, temperature=1.0, seed=7, ignore_eos=True)
    events = list(llm.stream("import", params))
    whole = llm.generate("import", params)[0].outputs[0]
    assert [event.token_id for event in events] == whole.token_ids
    assert "".join(event.text for event in events) == whole.text
    assert [event.finish_reason for event in events] == [None] * 29 + ["length"]


def test_stop_token_and_stop_string(llm: LLM) -> None:
    tokens = llm.generate("x", GREEDY)[0].outputs[0].token_ids
    fifth = tokens[4]
    stopped = llm.generate(
        "x", SamplingParams(max_tokens=24, temperature=0.0, stop_token_ids=(fifth,))
    )[0].outputs[0]
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == tokens[: tokens.index(fifth) + 1]
    text = llm.generate("x", GREEDY)[0].outputs[0].text
    assert text
    mark = text[2:4]
    cut = llm.generate(
        "x", SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True, stop=mark)
    )[0].outputs[0]
    assert cut.text == text[: text.index(mark)]
    assert cut.finish_reason == "stop"


def test_end_token_ends_unless_ignored(directory: Path, tmp_path: Path, llm: LLM) -> None:
    first = llm.generate("x", GREEDY)[0].outputs[0].token_ids[0]
    ending = LLM(_checkpoint(tmp_path, TOKENIZER, plt_num_loops=3, eos_token_id=first))
    output = ending.generate("x", SamplingParams(max_tokens=24, temperature=0.0))[0].outputs[0]
    assert (output.token_ids, output.finish_reason, output.text) == ([first], "stop", "")


def test_without_a_tokenizer_tokens_work_and_text_is_none(tmp_path: Path) -> None:
    llm = LLM(_checkpoint(tmp_path, None))
    output = llm.generate([[5, 6]], GREEDY)[0].outputs[0]
    assert output.text is None
    assert len(output.token_ids) == 24
    with pytest.raises(RequestError, match="no tokenizer"):
        llm.generate("text")
    with pytest.raises(RequestError, match="stop strings need a tokenizer"):
        llm.generate([[5, 6]], SamplingParams(stop="x"))


def test_chat_uses_the_template(tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER.backend_tokenizer)
    tokenizer.chat_template = TEMPLATE
    llm = LLM(_checkpoint(tmp_path, tokenizer))
    output = llm.chat([{"role": "user", "content": "hi"}], GREEDY)
    assert tokenizer.decode(output.prompt_token_ids) == "<user>hi<assistant>"


def test_length_limits(directory: Path, llm: LLM) -> None:
    short = LLM(directory, max_model_len=16)
    output = short.generate([[5] * 10], GREEDY)[0].outputs[0]
    assert (len(output.token_ids), output.finish_reason) == (6, "length")
    with pytest.raises(RequestError, match="max_model_len is 16"):
        short.generate([[5] * 16])
    with pytest.raises(RequestError, match="256 positions"):
        LLM(directory, max_model_len=257)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.generate([[]]), "empty"),
        (lambda m: m.generate([[300]]), "300 is outside the vocabulary of 256"),
        (lambda m: m.generate([[-1]]), "outside the vocabulary"),
        (lambda m: m.generate(["a", "b"], [SamplingParams()]), "1 sampling parameters for 2"),
        (lambda m: m.chat([{"role": "user", "content": "hi"}]), "no chat template"),
        (lambda m: LLM(m, schedule="sideways"), "schedule"),
    ],
)
def test_bad_requests_say_what_is_wrong(llm: LLM, call: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        call(llm)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"device": "quantum"}, "device"), ({"dtype": "int3"}, "int3"), ({"loops": 0}, "loops")],
)
def test_bad_arguments_say_what_is_wrong(
    directory: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(LoopCoderError, match=message):
        LLM(directory, **arguments)


def test_unknown_model_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        LLM("no-such-model")


def test_nano_in_bfloat16() -> None:
    """Both schedules, prompt in the tail and in full: as near as its 8 bits allow."""
    params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=8)
    prompt = "def fibonacci(n):\n    " * 12
    found = []
    for settings in ({}, {"schedule": "serial", "prefill": "full"}):
        output = LLM("loopcoder-nano", dtype="bfloat16", **settings).generate(prompt, params)[0]
        (seen,) = output.outputs[0].logprobs
        found.append({token: each.logprob for token, each in seen.items()})
    shared = found[0].keys() & found[1].keys()
    assert len(shared) >= 6
    assert all(abs(found[0][token] - found[1][token]) < 0.2 for token in shared)
