"""A model that gives NaN, requests without end, bodies that never come: each fails alone."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch

from loopcoder.server.errors import APIError
from loopcoder.server.gate import Gate
from loopcoder.server.settings import ServerSettings
from tests.server.clients import check_error
from tests.server.serving import serving
from tests.small import byte_tokenizer, small_model

NAN = "Z"


@torch.no_grad()
def make_fragile(model: Any) -> None:
    """Weights are all finite, as a checkpoint's must be; one letter makes q . k overflow.

    One channel is that letter's alone: no other writes to it, and layer 1 makes it huge.
    """
    letter = byte_tokenizer()(NAN)["input_ids"][0]
    model.get_input_embeddings().weight[:, 0] = 0
    model.get_input_embeddings().weight[letter, 0] = 1
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0
        layer.mlp.down_proj.weight[0] = 0
    attention = model.model.layers[0].self_attn
    attention.q_proj.weight[:, 0] = attention.k_proj.weight[:, 0] = 1e25


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A model that gives NaN after one letter; two seconds for a request."""
    directory = tmp_path_factory.mktemp("nan")
    model = small_model(max_position_embeddings=4096, tie_word_embeddings=False)
    make_fragile(model)
    model.save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    options = ("--request-timeout", "2", "--served-model-name", "fragile")
    with serving(*options, model=str(directory)) as started:
        yield started


SMALL: dict[str, Any] = {"model": "fragile", "prompt": "abc", "max_tokens": 4, "temperature": 0}


def test_a_request_that_breaks_the_model_fails_alone(fragile: Any) -> None:
    bias = {str(byte_tokenizer()(NAN)["input_ids"][0]): -100}
    url = f"{fragile.url}/v1/completions"
    good = {**SMALL, "max_tokens": 60, "logit_bias": bias, "ignore_eos": True}
    alone = httpx.post(url, json=good).json()["choices"][0]["text"]
    with httpx.stream("POST", url, json={**good, "stream": True}) as other:
        lines = other.iter_lines()
        first = next(lines)
        error = check_error(httpx.post(url, json={**SMALL, "prompt": f"ab{NAN}"}), 500)
        assert "NaN" in error["message"]
        rest = [first, *(line for line in lines if line)]
    events = [json.loads(line[6:]) for line in rest if line != "data: [DONE]"]
    assert "".join(event["choices"][0]["text"] for event in events) == alone
    broken = {**SMALL, "prompt": f"abcd{NAN}", "stream": True}
    streamed = httpx.post(url, json=broken)
    assert '"error"' in streamed.text
    # What it wrote into memory is not reused: the prompt's good beginning still works.
    again = httpx.post(url, json={**good, "prompt": "abcd"})
    assert again.status_code == 200
    mixed = httpx.post(url, json={**SMALL, "prompt": ["abc", f"a{NAN}"]})
    check_error(mixed, 500)
    assert httpx.post(url, json=good).json()["choices"][0]["text"] == alone
    fragile.idle()


def test_a_request_that_takes_too_long_is_ended(fragile: Any) -> None:
    long = {**SMALL, "n": 16, "max_tokens": 4000, "ignore_eos": True}
    long["logit_bias"] = {str(byte_tokenizer()(NAN)["input_ids"][0]): -100}
    url = f"{fragile.url}/v1/completions"
    error = check_error(httpx.post(url, json=long, timeout=60), 504, 408)
    assert error["code"] == "timeout"
    streamed = httpx.post(url, json={**long, "stream": True}, timeout=60)
    last = [line for line in streamed.text.splitlines() if line][-2:]
    assert json.loads(last[0][6:])["error"]["code"] == "timeout"
    fragile.idle(10)


def test_a_body_that_never_comes_is_given_up() -> None:
    """The gate itself, with a tenth of a second instead of half a minute."""
    sent: list[Any] = []

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    async def receive() -> Any:
        if not sent:
            sent.append("half")
            return {"type": "http.request", "body": b"{", "more_body": True}
        return await asyncio.sleep(3600)

    gate = Gate(reading, ServerSettings(body_timeout=0.1), lambda: False)
    kind = (b"content-type", b"application/json")
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(b"host", b"localhost"), kind],
    }
    with pytest.raises(APIError) as caught:
        asyncio.run(gate(scope, receive, None))
    assert caught.value.status_code == 408
