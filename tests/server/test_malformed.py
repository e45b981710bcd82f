"""Bodies that no client would write: refused in OpenAI's shape, and the server goes on."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.clients import ASK, MODEL, TALK, check_error


@pytest.fixture(scope="module")
def http(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def test_a_valid_request_passes(http: httpx.Client) -> None:
    """So that the refusals below are for what they say."""
    assert http.post("/v1/completions", json=ASK).status_code == 200
    assert http.post("/v1/chat/completions", json=TALK).status_code == 200


def raw(**fields: str) -> bytes:
    """A request with fields given as JSON text."""
    settled = {"model": json.dumps(MODEL), "prompt": '"a"', "max_tokens": "2", **fields}
    return ("{" + ",".join(f'"{name}":{text}' for name, text in settled.items()) + "}").encode()


BROKEN = {
    "half": b'{"model": "a',
    "nothing": b"",
    "list": b"[]",
    "null": b"null",
    "text": b'"prompt"',
    "number": b"1",
    "invalid utf-8": b'{"model": "\xff\xfe", "prompt": "a"}',
    "invalid utf-8 in the prompt": raw(prompt='"').replace(b'""', b'"\xc3\x28"'),
    "nan": raw(temperature="NaN"),
    "infinity": raw(temperature="Infinity"),
    "too large for a float": raw(temperature="1e999"),
    "integer too large for a float": raw(temperature="1" + "0" * 400),
    "integer too long to be read": raw(seed="9" * 5000),
    "a penalty that makes logits infinite": raw(repetition_penalty="1e-40"),
    "seed of 65 bits": raw(seed=str(2**64)),
    "n of 19 digits": raw(n="9" * 19),
    "logprobs of 30 digits": raw(logprobs="9" * 30),
    "loops of 19 digits": raw(loops="9" * 19),
    "token id of 30 digits": raw(prompt="[" + "9" * 30 + "]"),
    "stop token of 30 digits": raw(stop_token_ids="[" + "9" * 30 + "]"),
    "bias of a token out of range": raw(logit_bias='{"99999": 1}'),
    "bias of no token": raw(logit_bias='{"a": 1}'),
    "bias of a long number": raw(logit_bias='{"' + "9" * 5000 + '": 1}'),
    "bias nan": raw(logit_bias='{"5": NaN}'),
    "nested brackets": b"[" * 100_000,
    "nested objects": raw(metadata='{"a":' * 50_000 + "1" + "}" * 50_000),
    "empty prompts": raw(prompt="[]"),
    "empty prompt in a list": raw(prompt="[[]]"),
    "mixed prompts": raw(prompt='[1, "a"]'),
    "booleans as tokens": raw(prompt="[true]"),
    "fractions as tokens": raw(prompt="[1.5]"),
    "object as prompt": raw(prompt="{}"),
    "text as a number": raw(n='"2"'),
    "number as a boolean": raw(stream="1"),
    "number as stop": raw(stop="7"),
    "half a surrogate in the model": raw(model=r'"\ud800"'),
    "half a surrogate in stop": raw(stop=r'"\udfff"'),
    "half a surrogate in the prompt": raw(prompt=r'"a\ud83d"'),
    "half a surrogate in a field's name": raw(**{r"\ud800": "1"}),
    "half a surrogate in a choice": raw(structured_outputs=r'{"choice": ["\ud800"]}'),
    "half a surrogate in a pattern": raw(structured_outputs=r'{"regex": "\ud800"}'),
    "half a surrogate in a schema": raw(structured_outputs=r'{"json": {"const": "\ud800"}}'),
    "half a surrogate in a grammar": raw(structured_outputs=r'{"grammar": "\ud800"}'),
    "half a surrogate in the suffix": raw(suffix=r'"\ud800"'),
    "nul in the model": raw(model=r'"\u0000"'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_bodies_are_refused(http: httpx.Client, name: str) -> None:
    sent = {"Content-Type": "application/json"}
    response = http.post("/v1/completions", content=BROKEN[name], headers=sent)
    check_error(response, 404 if "in the model" in name else 400, 400)


def test_extreme_numbers_are_still_numbers(http: httpx.Client) -> None:
    for fields in (
        {"temperature": 1e-300},
        {"temperature": 1e300},
        {"top_p": 5e-324},
        {"top_p": 0},
        {"min_p": 1},
        {"top_k": 2**62},
        {"seed": -(2**63)},
        {"seed": 2**64 - 1},
        {"frequency_penalty": 2, "presence_penalty": -2},
    ):
        response = http.post("/v1/completions", json={**ASK, "temperature": 1, **fields})
        assert response.status_code == 200, (fields, response.text)


def test_odd_text_is_still_text(http: httpx.Client) -> None:
    for prompt in ("a\x00b", "\ufeff", "\u202e", "🙂" * 50, "\r\n\x7f\x1b[31m"):
        response = http.post("/v1/completions", json={**ASK, "prompt": prompt})
        assert response.status_code == 200
        assert http.post("/tokenize", json={"prompt": prompt}).status_code == 200


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": "\ud800"}],
        [{"role": "assistant", "tool_calls": [{"type": "function"}]}],
        "hello",
    ],
)
def test_broken_conversations_are_refused(http: httpx.Client, messages: Any) -> None:
    body = json.dumps({**TALK, "messages": messages})
    sent = {"Content-Type": "application/json"}
    check_error(http.post("/v1/chat/completions", content=body, headers=sent), 400)


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize"])
@pytest.mark.parametrize(
    "body", [r'{"prompt": "\ud800"}', '{"prompt": 5}', '{"tokens": [1e99]}', "[" * 9999]
)
def test_broken_tokenizing_is_refused(http: httpx.Client, path: str, body: str) -> None:
    sent = {"Content-Type": "application/json"}
    check_error(http.post(path, content=body, headers=sent), 400)


@pytest.mark.parametrize("depth", [50, 200, 5000])
def test_deep_schemas_are_no_danger(http: httpx.Client, depth: int) -> None:
    schema = '{"type":"array","items":' * depth + "{}" + "}" * depth
    body = raw(structured_outputs='{"json":' + schema + "}")
    sent = {"Content-Type": "application/json"}
    response = http.post("/v1/completions", content=body, headers=sent)
    if response.status_code != 200:
        check_error(response, 400)
    for fields in ({"tools": "parameters"}, {"response_format": "schema"}):
        (name,) = fields
        inner = (
            '[{"type":"function","function":{"name":"f","parameters":' + schema + "}}]"
            if name == "tools"
            else '{"type":"json_schema","json_schema":{"name":"s","schema":' + schema + "}}"
        )
        talk = json.dumps(TALK)[:-1] + f', "{name}":{inner}}}'
        response = http.post("/v1/chat/completions", content=talk, headers=sent)
        if response.status_code != 200:
            check_error(response, 400)


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/xml"]
)
def test_other_content_types_are_refused(http: httpx.Client, kind: str | None) -> None:
    sent = {} if kind is None else {"Content-Type": kind}
    check_error(http.post("/v1/completions", content=json.dumps(ASK), headers=sent), 415, 400)
    charset = {"Content-Type": "application/json; charset=utf-8"}
    fine = http.post("/v1/completions", content=json.dumps(ASK), headers=charset)
    assert fine.status_code == 200
