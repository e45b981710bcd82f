"""Stop strings never leak, whole or in part, whatever tokens they are made of."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from tests.server.clients import HELLO, MODEL, PROMPT, gather, openai_client, tokenizer

TEXT = "alpha <STOP> beta 🙂 gamma"
FORCED = {"structured_outputs": {"choice": [TEXT]}}


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[OpenAI]:
    with openai_client(server.url) as opened:
        yield opened


def complete(client: OpenAI, **fields: Any) -> Any:
    settled = {"temperature": 0, "max_tokens": 48, **fields}
    return client.completions.create(model=MODEL, prompt=PROMPT, **settled)


def chat(client: OpenAI, **fields: Any) -> Any:
    settled = {"temperature": 0, "max_tokens": 48, **fields}
    return client.chat.completions.create(model=MODEL, messages=HELLO, **settled)


def both_ways(client: OpenAI, ask: Any, **fields: Any) -> tuple[str, str]:
    """Text and finish reason; the stream must say the same, and never more on the way."""
    choice = ask(client, **fields).choices[0]
    text = choice.text if ask is complete else choice.message.content
    streamed, _ = gather(ask(client, stream=True, **fields))
    assert streamed[0].text == text
    assert streamed[0].finish_reason == choice.finish_reason
    return text, choice.finish_reason


def before(text: str, stops: list[str]) -> str:
    """`text` up to the earliest of `stops`."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


@pytest.mark.parametrize("ask", [complete, chat])
@pytest.mark.parametrize(
    "stop",
    [
        "<STOP>",
        ["<STOP>"],
        "🙂",
        [" beta", "a <"],
        ["gamma", "eta", "zzz"],
        "TOP> b",
        "a",
        ["<STOPPED", "<STOP> beth"],  # begin to match, twice, and do not
    ],
)
def test_forced_text_stops_where_it_should(client: OpenAI, ask: Any, stop: Any) -> None:
    stops = [stop] if isinstance(stop, str) else stop
    text, reason = both_ways(client, ask, stop=stop, extra_body=FORCED)
    assert text == before(TEXT, stops)
    assert reason == "stop"


def test_every_piece_of_the_models_own_text_can_stop_it(client: OpenAI) -> None:
    """Pieces that begin and end inside tokens."""
    whole = complete(client).choices[0].text
    assert len(whole) > 60
    for start in range(3, 60, 8):
        stop = whole[start : start + 5]
        text, reason = both_ways(client, complete, stop=[stop])
        assert text == before(whole, [stop])
        assert reason == "stop"


def test_each_continuation_stops_by_itself(client: OpenAI) -> None:
    fields: dict[str, Any] = {"n": 4, "temperature": 1.0, "seed": 4}
    wholes = [choice.text for choice in complete(client, **fields).choices]
    stops = [" ", "\n"]
    choices = complete(client, stop=stops, **fields).choices
    assert [choice.text for choice in choices] == [before(text, stops) for text in wholes]
    streamed, _ = gather(complete(client, stop=stops, stream=True, **fields))
    assert [streamed[i].text for i in range(4)] == [choice.text for choice in choices]


def test_usage_counts_the_tokens_of_the_stop_string(client: OpenAI) -> None:
    given = complete(client, stop="<STOP>", extra_body=FORCED, logprobs=0)
    shown = len(given.choices[0].logprobs.tokens)
    assert given.usage.completion_tokens >= shown
    assert given.usage.completion_tokens > len(tokenizer()("alpha")["input_ids"])


def test_extras_stop_token_ids_and_ignore_eos(client: OpenAI) -> None:
    end = tokenizer().eos_token_id
    bias = {str(end): 100}
    ended = complete(client, logit_bias=bias)
    assert (ended.choices[0].text, ended.choices[0].finish_reason) == ("", "stop")
    assert ended.usage.completion_tokens == 1
    on = complete(client, logit_bias=bias, max_tokens=5, extra_body={"ignore_eos": True})
    assert on.choices[0].finish_reason == "length"
    assert on.usage.completion_tokens == 5
    least = complete(client, logit_bias=bias, extra_body={"min_tokens": 3})
    assert least.usage.completion_tokens == 4
    (word,) = tokenizer()("return")["input_ids"]
    stopped = complete(client, logit_bias={str(word): 100}, extra_body={"stop_token_ids": [word]})
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.usage.completion_tokens == 1
