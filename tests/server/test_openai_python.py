"""The official `openai` Python client over a real socket: models, completions, chat, errors."""

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from loopcoder import LLM, SamplingParams
from tests.server.clients import (
    HELLO,
    MODEL,
    PROMPT,
    chat_length,
    gather,
    openai_client,
    tokenizer,
)

DRAWN: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95, "seed": 11, "max_tokens": 24}
FORCED = "naïve 🙂 = '漢字', straße"
CHOICE = {"structured_outputs": {"choice": [FORCED]}}


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[OpenAI]:
    with openai_client(server.url) as opened:
        yield opened


def complete(client: OpenAI, prompt: Any = PROMPT, **fields: Any) -> Any:
    settled = {"temperature": 0, "max_tokens": 16, **fields}
    return client.completions.create(model=MODEL, prompt=prompt, **settled)


def chat(client: OpenAI, messages: Any = None, **fields: Any) -> Any:
    settled = {"temperature": 0, "max_tokens": 16, **fields}
    return client.chat.completions.create(model=MODEL, messages=messages or HELLO, **settled)


def test_models_are_listed_and_found(client: OpenAI) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == [MODEL]
    one = client.models.retrieve(MODEL)
    assert (one.object, one.owned_by) == ("model", "loopcoder")
    facts = one.model_dump()
    assert facts["max_model_len"] == 2048
    assert (facts["loops"], facts["layers"], facts["chat"]) == (2, 4, True)
    assert facts["most_loops"] >= 2
    assert facts["parameters"] == 5_250_320


def test_the_text_is_the_engines(client: OpenAI) -> None:
    """Greedy text over HTTP is what `LLM` writes in this process, token for token."""
    llm = LLM(MODEL, max_num_seqs=2)
    for loops in (1, 2):
        params = SamplingParams(max_tokens=24, temperature=0.0, loops=loops)
        expected = llm.generate(PROMPT, params)[0].outputs[0]
        given = complete(client, max_tokens=24, logprobs=0, extra_body={"loops": loops})
        assert given.choices[0].text == expected.text
        assert given.usage.completion_tokens == len(expected.token_ids)


def test_a_completion_has_openais_shape(client: OpenAI) -> None:
    given = complete(client)
    assert given.object == "text_completion"
    assert given.model == MODEL
    assert given.id.startswith("cmpl-")
    assert given.created > 1_700_000_000
    (choice,) = given.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    prompt_tokens = len(tokenizer()(PROMPT)["input_ids"])
    usage = given.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (prompt_tokens, 16)
    assert usage.total_tokens == prompt_tokens + 16


def test_a_chat_completion_has_openais_shape(client: OpenAI) -> None:
    given = chat(client)
    assert given.object == "chat.completion"
    assert given.id.startswith("chatcmpl-")
    (choice,) = given.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert not choice.message.tool_calls
    assert choice.finish_reason in ("stop", "length")
    assert given.usage.prompt_tokens == chat_length(HELLO)


@pytest.mark.parametrize("ask", [complete, chat])
@pytest.mark.parametrize("fields", [{}, DRAWN, {**DRAWN, "n": 3}])
def test_a_stream_adds_up_to_the_answer(client: OpenAI, ask: Any, fields: dict[str, Any]) -> None:
    whole = ask(client, **fields)
    chunks = list(ask(client, **fields, stream=True, stream_options={"include_usage": True}))
    choices, usage = gather(chunks)
    texts = {
        c.index: (c.text if ask is complete else c.message.content, c.finish_reason)
        for c in whole.choices
    }
    assert {i: (c.text, c.finish_reason) for i, c in choices.items()} == texts
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(usage, name) == getattr(whole.usage, name)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[-1].choices == []
    assert all(chunk.usage is None for chunk in chunks[:-1])
    if ask is chat:
        assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
        firsts = [chunk.choices[0].delta.role for chunk in chunks[: len(choices)]]
        assert set(firsts) == {"assistant"}


@pytest.mark.parametrize("ask", [complete, chat])
def test_no_usage_in_a_stream_unless_asked(client: OpenAI, ask: Any) -> None:
    chunks = list(ask(client, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert all(len(chunk.choices) == 1 for chunk in chunks)


@pytest.mark.parametrize("ask", [complete, chat])
def test_usage_so_far_as_vllm_tells_it(client: OpenAI, ask: Any) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}
    counts = [chunk.usage for chunk in ask(client, stream=True, stream_options=options)]
    written = [count.completion_tokens for count in counts]
    assert written == sorted(written)
    assert written[0] < written[-1]
    assert len({count.prompt_tokens for count in counts}) == 1


@pytest.mark.parametrize("ask", [complete, chat])
def test_text_comes_while_it_is_written(client: OpenAI, ask: Any) -> None:
    choices, _ = gather(ask(client, stream=True, max_tokens=24))
    assert len([piece for piece in choices[0].pieces if piece]) > 5


def test_prompts_of_every_kind(client: OpenAI) -> None:
    """Text, texts, token ids, lists of token ids: the same answers in the prompts' order."""
    texts = [PROMPT, "class Stack:", "import os\n"]
    ids = [tokenizer()(text)["input_ids"] for text in texts]
    alone = [complete(client, text).choices[0].text for text in texts]
    assert [complete(client, each).choices[0].text for each in ids] == alone
    for several in (texts, ids):
        given = complete(client, several)
        assert [c.index for c in given.choices] == [0, 1, 2]
        assert [c.text for c in given.choices] == alone
        assert given.usage.prompt_tokens == sum(map(len, ids))
        assert given.usage.completion_tokens == 3 * 16


def test_n_of_several_prompts_is_in_order(client: OpenAI) -> None:
    """Choices of prompt i are those numbered i n to i n + n - 1, as OpenAI's."""
    prompts = [PROMPT, "class Stack:"]
    given = complete(client, prompts, n=2, **DRAWN)
    assert [c.index for c in given.choices] == [0, 1, 2, 3]
    for i, prompt in enumerate(prompts):
        one = complete(client, prompt, n=2, **DRAWN)
        assert [c.text for c in given.choices[2 * i : 2 * i + 2]] == [c.text for c in one.choices]
    streamed, _ = gather(complete(client, prompts, n=2, stream=True, **DRAWN))
    assert [streamed[i].text for i in range(4)] == [c.text for c in given.choices]


def test_n_continuations_differ(client: OpenAI) -> None:
    assert len({c.text for c in complete(client, n=4, **DRAWN).choices}) == 4
    given = chat(client, n=3, **DRAWN)
    assert [c.index for c in given.choices] == [0, 1, 2]
    assert len({c.message.content for c in given.choices}) == 3


def test_max_completion_tokens(client: OpenAI) -> None:
    for field in ("max_tokens", "max_completion_tokens"):
        given = client.chat.completions.create(
            model=MODEL, messages=HELLO, temperature=0, **{field: 5}
        )
        assert given.usage.completion_tokens == 5
        assert given.choices[0].finish_reason == "length"


def test_a_chat_without_a_limit_runs_to_the_models_end(client: OpenAI) -> None:
    """OpenAI's default is the room there is; the model's end token, made likely, ends it."""
    end = tokenizer().convert_tokens_to_ids("<|im_end|>")
    given = client.chat.completions.create(
        model=MODEL, messages=HELLO, seed=3, logit_bias={str(end): 11}
    )
    assert given.choices[0].finish_reason == "stop"
    assert "<|im_end|>" not in given.choices[0].message.content


def test_logit_bias_forbids_and_forces(client: OpenAI) -> None:
    first = tokenizer()(complete(client, max_tokens=1).choices[0].text)["input_ids"][0]
    other = complete(client, max_tokens=1, logit_bias={str(first): -100}).choices[0].text
    assert other != tokenizer().decode([first])
    (wanted,) = tokenizer()("return")["input_ids"]
    forced = complete(client, max_tokens=4, logit_bias={str(wanted): 100}, temperature=1)
    assert forced.choices[0].text == "return" * 4


def test_suffix_fills_in_the_middle(client: OpenAI) -> None:
    """The prompt is written with the tokenizer's fill-in-the-middle tokens."""
    given = complete(client, "def add(a, b):\n", suffix="\n    return c\n")
    ids = [
        tokenizer().convert_tokens_to_ids(f"<|fim_{part}|>")
        for part in ("prefix", "suffix", "middle")
    ]
    pieces = [tokenizer()(t)["input_ids"] for t in ("def add(a, b):\n", "\n    return c\n")]
    written = [ids[0], *pieces[0], ids[1], *pieces[1], ids[2]]
    assert given.usage.prompt_tokens == len(written)
    assert given.choices[0].text == complete(client, written).choices[0].text


def test_content_in_parts_and_every_role(client: OpenAI) -> None:
    parts = [{"type": "text", "text": "Write a function "}, {"type": "text", "text": "now."}]
    joined = chat(client, [{"role": "user", "content": "Write a function now."}])
    assert chat(client, [{"role": "user", "content": parts}]).choices == joined.choices
    for role in ("system", "developer"):
        long = chat(client, [{"role": role, "content": "Be brief."}, *HELLO])
        assert long.usage.prompt_tokens > chat_length(HELLO)


def test_characters_never_break_in_a_stream(client: OpenAI) -> None:
    """The text spans several tokens a character, so that pieces are held back."""
    assert len(tokenizer()("🙂")["input_ids"]) > 1
    whole = complete(client, max_tokens=60, extra_body=CHOICE).choices[0]
    assert (whole.text, whole.finish_reason) == (FORCED, "stop")
    choices, _ = gather(complete(client, max_tokens=60, extra_body=CHOICE, stream=True))
    assert choices[0].text == FORCED
    assert not any("\ufffd" in piece for piece in choices[0].pieces)
    talk, _ = gather(chat(client, max_tokens=60, extra_body=CHOICE, stream=True))
    assert talk[0].text == FORCED


@pytest.mark.parametrize(
    ("call", "kind", "about"),
    [
        (lambda c: complete(c, temperature=-1), openai.BadRequestError, "temperature"),
        (lambda c: complete(c, top_p=2), openai.BadRequestError, "top_p"),
        (lambda c: complete(c, n=0), openai.BadRequestError, "n"),
        (lambda c: complete(c, max_tokens=-1), openai.BadRequestError, "max_tokens"),
        (lambda c: complete(c, extra_body={"colour": 1}), openai.BadRequestError, "colour"),
        (lambda c: chat(c, extra_body={"colour": 1}), openai.BadRequestError, "colour"),
        (lambda c: complete(c, extra_body={"loops": 0}), openai.BadRequestError, "loops"),
        (lambda c: complete(c, [9999]), openai.BadRequestError, "9999"),
        (lambda c: complete(c, logprobs=21), openai.BadRequestError, "logprobs"),
        (lambda c: chat(c, top_logprobs=2), openai.BadRequestError, "top_logprobs"),
        (
            lambda c: chat(c, logprobs=True, top_logprobs=21),
            openai.BadRequestError,
            "top_logprobs",
        ),
        (lambda c: chat(c, [{"role": "king", "content": "?"}]), openai.BadRequestError, "role"),
        (lambda c: complete(c, stop=["a"] * 17), openai.BadRequestError, "stop"),
        (lambda c: complete(c, [1, 2] * 2000), openai.APIStatusError, "prompt"),
    ],
)
def test_errors_are_the_clients_own(client: OpenAI, call: Any, kind: Any, about: str) -> None:
    with pytest.raises(kind) as caught:
        call(client)
    body = caught.value.body
    assert set(body) == {"message", "type", "param", "code"}
    assert about in str(body["message"]) + str(body["param"])
    assert body["type"] == "invalid_request_error"


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-9") as caught:
        client.completions.create(model="gpt-9", prompt="a")
    assert caught.value.body["code"] == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        client.models.retrieve("gpt-9")


def test_an_error_comes_before_a_stream(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        complete(client, temperature=9e9, top_p=-1, stream=True)


def test_the_async_client_and_many_at_once(server: Any, client: OpenAI) -> None:
    prompts = [f"def f{i}(x):\n" for i in range(8)]
    alone = [complete(client, prompt).choices[0].text for prompt in prompts]

    async def one(busy: AsyncOpenAI, number: int, prompt: str) -> str:
        fields: dict[str, Any] = {"temperature": 0, "max_tokens": 16}
        if number % 2:
            given = await busy.completions.create(model=MODEL, prompt=prompt, **fields)
            return given.choices[0].text
        text = ""
        stream = await busy.completions.create(model=MODEL, prompt=prompt, stream=True, **fields)
        async for chunk in stream:
            text += chunk.choices[0].text
        return text

    async def all_of_them() -> list[str]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as busy:
            return await asyncio.gather(*(one(busy, i, p) for i, p in enumerate(prompts)))

    assert asyncio.run(all_of_them()) == alone
