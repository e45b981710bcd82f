"""Log-probabilities over the wire: the engine's numbers, the right bytes, lm-eval's way to ask."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from loopcoder import LLM, SamplingParams
from tests.server.clients import HELLO, MODEL, PROMPT, gather, openai_client, tokenizer

FORCED = "naïve 🙂 = '漢字', straße"
CHOICE = {"structured_outputs": {"choice": [FORCED]}}
# Another batch, another order of additions; bfloat16 weights and states. Measured below 0.02.
TOLERANCE = 0.05


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[OpenAI]:
    with openai_client(server.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(MODEL, max_num_seqs=2)


def complete(client: OpenAI, prompt: Any = PROMPT, **fields: Any) -> Any:
    settled = {"temperature": 0, "max_tokens": 12, **fields}
    return client.completions.create(model=MODEL, prompt=prompt, **settled)


def chat(client: OpenAI, **fields: Any) -> Any:
    settled = {"temperature": 0, "max_tokens": 12, "logprobs": True, **fields}
    return client.chat.completions.create(model=MODEL, messages=HELLO, **settled)


def check_legacy(logprobs: Any, text: str) -> None:
    """Every list has an entry a token; offsets count characters of the text and never fall."""
    lengths = {len(logprobs.tokens), len(logprobs.token_logprobs), len(logprobs.text_offset)}
    assert len(lengths) == 1
    assert logprobs.text_offset == sorted(logprobs.text_offset)
    assert 0 <= logprobs.text_offset[0] <= logprobs.text_offset[-1] <= len(text)


def test_completion_logprobs_are_the_engines(client: OpenAI, llm: LLM) -> None:
    params = SamplingParams(max_tokens=12, temperature=0.0, logprobs=3)
    output = llm.generate(PROMPT, params)[0].outputs[0]
    (choice,) = complete(client, logprobs=3).choices
    found = choice.logprobs
    check_legacy(found, choice.text)
    assert found.tokens == [tokenizer().decode([t]) for t in output.token_ids]
    assert "".join(found.tokens) == choice.text
    for offset, token in zip(found.text_offset, found.tokens, strict=True):
        assert choice.text[offset:].startswith(token)
    mine = [seen[t].logprob for seen, t in zip(output.logprobs, output.token_ids, strict=True)]
    assert found.token_logprobs == pytest.approx(mine, abs=TOLERANCE)
    for token, value, top in zip(
        found.tokens, found.token_logprobs, found.top_logprobs, strict=True
    ):
        assert len(top) == 3
        assert top[token] == max(top.values()) == value  # greedy


def test_the_chosen_token_is_among_the_top_even_if_unlikely(client: OpenAI) -> None:
    (choice,) = complete(client, temperature=2, seed=5, logprobs=1).choices
    found = choice.logprobs
    for token, value, top in zip(
        found.tokens, found.token_logprobs, found.top_logprobs, strict=True
    ):
        assert len(top) in (1, 2)
        assert top[token] == value


def test_logprobs_zero_gives_the_chosen_alone(client: OpenAI) -> None:
    found = complete(client, logprobs=0).choices[0].logprobs
    assert len(found.token_logprobs) == 12
    assert all(value <= 0 for value in found.token_logprobs)


@pytest.mark.parametrize("fields", [{}, {"extra_body": CHOICE, "max_tokens": 60}])
def test_a_streams_logprobs_are_the_answers(client: OpenAI, fields: dict[str, Any]) -> None:
    whole = complete(client, logprobs=2, **fields).choices[0]
    choices, _ = gather(complete(client, logprobs=2, stream=True, **fields))
    parts = choices[0].logprobs
    for name in ("tokens", "text_offset"):
        found = [value for part in parts for value in getattr(part, name)]
        assert found == getattr(whole.logprobs, name)
    values = [value for part in parts for value in part.token_logprobs]
    assert values == pytest.approx(whole.logprobs.token_logprobs, abs=TOLERANCE)


def joined(entries: Any) -> bytes:
    return b"".join(bytes(entry.bytes) for entry in entries)


@pytest.mark.parametrize("fields", [{}, {"extra_body": CHOICE, "max_tokens": 60}])
def test_bytes_of_chat_tokens_are_the_text(client: OpenAI, fields: dict[str, Any]) -> None:
    """Also where a character spans several tokens, of which each alone is no text."""
    (choice,) = chat(client, top_logprobs=4, **fields).choices
    entries = choice.logprobs.content
    assert joined(entries).decode() == choice.message.content
    for entry in entries:
        assert len(entry.top_logprobs) == 4
        tops = [top.logprob for top in entry.top_logprobs]
        assert tops == sorted(tops, reverse=True)
        assert entry.logprob <= 0
        chosen = [top for top in entry.top_logprobs if top.bytes == entry.bytes]
        assert not chosen or chosen[0].logprob == pytest.approx(entry.logprob)
        assert entry.token == bytes(entry.bytes).decode(errors="replace")
    if fields:
        assert choice.message.content == FORCED
        assert any("\ufffd" in entry.token for entry in entries)
    streamed, _ = gather(chat(client, top_logprobs=4, stream=True, **fields))
    parts = [entry.bytes for part in streamed[0].logprobs for entry in part.content]
    assert parts == [entry.bytes for entry in entries]


def test_chat_logprobs_without_top(client: OpenAI) -> None:
    entries = chat(client).choices[0].logprobs.content
    assert [entry.top_logprobs for entry in entries] == [[]] * len(entries)
    assert chat(client, logprobs=False).choices[0].logprobs is None


def test_legacy_tokens_of_split_characters(client: OpenAI) -> None:
    (choice,) = complete(client, logprobs=1, extra_body=CHOICE, max_tokens=60).choices
    assert choice.text == FORCED
    check_legacy(choice.logprobs, FORCED)
    assert len(choice.logprobs.tokens) > len(tokenizer()("naive")["input_ids"])


def reference(llm: LLM, ids: list[int]) -> list[float]:
    """log p of each prompt token after the first, by the engine in this process."""
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=1)
    output = llm.generate([ids], params)[0]
    assert output.prompt_logprobs is not None
    return [
        seen[token].logprob
        for token, seen in zip(ids[1:], output.prompt_logprobs[1:], strict=True)
        if seen is not None
    ]


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_echo_scores_prompts_as_lm_eval_asks(client: OpenAI, llm: LLM, max_tokens: int) -> None:
    """A batch of token id lists; context and continuation scored from the echo."""
    texts = ["def add(a, b):\n    return a + b", "import os\nimport sys", "x = 1"]
    ids = [tokenizer()(text)["input_ids"] for text in texts]
    given = complete(client, ids, echo=True, logprobs=1, max_tokens=max_tokens, seed=1234)
    for choice, text, prompt in zip(
        sorted(given.choices, key=lambda c: c.index), texts, ids, strict=True
    ):
        found = choice.logprobs
        assert choice.text.startswith(text)
        assert len(found.tokens) == len(prompt) + max_tokens
        check_legacy(found, choice.text)
        assert "".join(found.tokens) == choice.text
        assert found.token_logprobs[0] is None
        assert found.top_logprobs[0] is None
        scored = found.token_logprobs[1 : len(prompt)]
        assert scored == pytest.approx(reference(llm, prompt), abs=TOLERANCE)
        for value, top in zip(found.token_logprobs[1:], found.top_logprobs[1:], strict=True):
            assert max(top.values()) >= value
        if max_tokens == 0:
            assert choice.text == text
            assert choice.finish_reason == "length"
    usage = given.usage
    assert usage.prompt_tokens == sum(map(len, ids))
    assert usage.completion_tokens == max_tokens * len(ids)


def test_echo_without_logprobs(client: OpenAI) -> None:
    written = complete(client).choices[0].text
    assert complete(client, echo=True).choices[0].text == PROMPT + written
    choices, _ = gather(complete(client, echo=True, stream=True))
    assert choices[0].text == PROMPT + written
    both = complete(client, echo=True, n=2, temperature=1, seed=2)
    assert all(choice.text.startswith(PROMPT) for choice in both.choices)


def test_loops_change_the_numbers(client: OpenAI) -> None:
    one, two = (
        complete(client, logprobs=0, max_tokens=1, extra_body={"loops": loops}).choices[0]
        for loops in (1, 2)
    )
    assert not math.isclose(one.logprobs.token_logprobs[0], two.logprobs.token_logprobs[0])
