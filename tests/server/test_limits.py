"""What must not get in, and what a bad request must not do to others or to the log."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from loopcoder.server.errors import APIError
from loopcoder.server.gate import Gate
from loopcoder.server.settings import ServerSettings
from tests.server.clients import HELLO, MODEL, PROMPT, openai_client
from tests.server.serving import serving
from tests.small import byte_tokenizer, small_model

KEYS = ("first-key", "second-key-which-is-longer")
AUTHORIZED = {"Authorization": f"Bearer {KEYS[0]}"}
ASK: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "max_tokens": 2, "temperature": 0}
TALK: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 2, "temperature": 0}


@pytest.fixture(scope="module")
def http(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def check_error(response: httpx.Response, *statuses: int) -> dict[str, Any]:
    """OpenAI's shape, one of the statuses, and nothing of the inside."""
    assert response.status_code in statuses, response.text[:500]
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    for inside in ("Traceback", ".py", "site-packages", str(Path.home()), "loopcoder/"):
        assert inside not in response.text
    return error


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


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""]
)
def test_other_names_for_this_machine_are_refused(http: httpx.Client, host: str) -> None:
    """A page elsewhere whose name is made to resolve to this machine (DNS rebinding)."""
    for path in ("/v1/models", "/", "/health", "/metrics", "/page/none"):
        check_error(http.get(path, headers={"Host": host}), 403, 400)
    for good in ("localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:99"):
        assert http.get("/v1/models", headers={"Host": good}).status_code == 200


def test_a_prompt_without_room_is_413(http: httpx.Client) -> None:
    for prompt in ([5] * 2048, "a b " * 4000, "x" * 1_000_000):
        error = check_error(http.post("/v1/completions", json={**ASK, "prompt": prompt}), 413)
        assert error["code"] == "context_length_exceeded"
    long = [{"role": "user", "content": "a b " * 4000}]
    check_error(http.post("/v1/chat/completions", json={**TALK, "messages": long}), 413)
    brink = http.post("/v1/completions", json={**ASK, "prompt": [5] * 2047, "max_tokens": 9})
    assert brink.json()["usage"]["completion_tokens"] == 1
    assert brink.json()["choices"][0]["finish_reason"] == "length"


LONG = "a" * 70_000


def function(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 17},
        {"stop": ["a"] * 17},
        {"stop": "a" * 257},
        {"prompt": ["a"] * 65},
        {"prompt": ["a"] * 64, "n": 16},  # more than may ever run and wait together
        {"logprobs": 21},
        {"loop_lens": 21},
        {"loops": 5},
        {"logit_bias": {str(i): 1 for i in range(2000)}},
        {"stop_token_ids": list(range(500))},
        {"structured_outputs": {"choice": [LONG]}},
        {"structured_outputs": {"regex": LONG}},
        {"structured_outputs": {"grammar": f'start: "{LONG}"'}},
        {"structured_outputs": {"json": {"const": LONG}}},
    ],
    ids="-".join,
)
def test_limits_of_completions(http: httpx.Client, fields: dict[str, Any]) -> None:
    error = check_error(http.post("/v1/completions", json={**ASK, **fields}), 400)
    assert any(character.isdigit() for character in error["message"]), "the limit is told"
    assert len(error["message"]) < 500


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 17},
        {"tools": [function(f"f{i}") for i in range(129)]},
        {"tools": [function("a", description=LONG)]},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"const": LONG}},
            }
        },
        {"logprobs": True, "top_logprobs": 21},
    ],
    ids="-".join,
)
def test_limits_of_chat(http: httpx.Client, fields: dict[str, Any]) -> None:
    error = check_error(http.post("/v1/chat/completions", json={**TALK, **fields}), 400)
    assert any(character.isdigit() for character in error["message"]), "the limit is told"
    assert len(error["message"]) < 500


def test_a_large_body_is_413_announced_or_not(http: httpx.Client) -> None:
    body = json.dumps({**ASK, "user": "a" * 9_000_000}).encode()
    kind = {"Content-Type": "application/json"}
    error = check_error(http.post("/v1/completions", content=body, headers=kind), 413)
    assert error["code"] == "body_too_large"
    pieces = (body[i : i + 50_000] for i in range(0, len(body), 50_000))
    check_error(http.post("/v1/completions", content=pieces, headers=kind), 413)
    assert http.post("/v1/completions", json=ASK).status_code == 200


@pytest.fixture(scope="module")
def strict() -> Iterator[Any]:
    """A server with two keys, room for few, short answers, and prompts in its log."""
    keys = [word for key in KEYS for word in ("--api-key", key)]
    limits = ("--max-num-seqs", "1", "--max-queue", "2", "--max-tokens", "200")
    with serving(*limits, *keys, "--log-prompts") as started:
        yield started


@pytest.fixture
def keyed(strict: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=strict.url, timeout=60, headers=AUTHORIZED) as client:
        yield client


def test_the_operators_limits(keyed: httpx.Client) -> None:
    for fields in ({"max_tokens": 201}, {"n": 4}, {"prompt": ["a", "b"], "n": 2}):
        check_error(keyed.post("/v1/completions", json={**ASK, **fields}), 400)
    for name in ("max_tokens", "max_completion_tokens"):
        body = {**TALK, "max_tokens": None, name: 201}
        check_error(keyed.post("/v1/chat/completions", json=body), 400)
    cut = keyed.post("/v1/chat/completions", json={**TALK, "max_tokens": None, "ignore_eos": True})
    assert cut.json()["usage"]["completion_tokens"] == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        f"Bearer {KEYS[0][:-1]}",
        f"Bearer {KEYS[0]}x",
        f"Bearer {KEYS[0]} {KEYS[1]}",
        f"Basic {KEYS[0]}",
        KEYS[0],
        f"Bearer {'k' * 5000}",
        f"Bearer {KEYS[0]}\u00e9",
    ],
)
def test_wrong_keys_are_401(strict: Any, authorization: str | None) -> None:
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    for path in ("/v1/models", "/stats", "/nothing"):
        response = httpx.get(f"{strict.url}{path}", headers=headers)
        assert check_error(response, 401)["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"
    posted = httpx.post(f"{strict.url}/v1/completions", json=ASK, headers=headers)
    check_error(posted, 401)
    assert httpx.get(f"{strict.url}/health", headers=headers).status_code == 200


def test_every_key_opens(strict: Any) -> None:
    for key in KEYS:
        with openai_client(strict.url, api_key=key) as client:
            assert client.models.list().data[0].id == MODEL
    with (
        openai_client(strict.url, api_key="wrong") as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_a_full_queue_is_429(strict: Any, keyed: httpx.Client) -> None:
    """One runs, two wait; the next is told when to come back, and those before it finish."""
    body = {**ASK, "max_tokens": 150, "ignore_eos": True}
    results: list[httpx.Response] = []

    def one() -> None:
        url = f"{strict.url}/v1/completions"
        results.append(httpx.post(url, json=body, headers=AUTHORIZED, timeout=120))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    while keyed.get("/stats").json()["outstanding"] < 3 and time.monotonic() < end:
        time.sleep(0.01)
    refused = keyed.post("/v1/completions", json=ASK)
    with openai_client(strict.url, api_key=KEYS[0]) as client, pytest.raises(openai.RateLimitError):
        client.completions.create(**ASK)
    for thread in threads:
        thread.join()
    assert [response.status_code for response in results] == [200] * 3
    assert check_error(refused, 429)["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert keyed.post("/v1/completions", json=ASK).status_code == 200


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


SECRET = "xyzzy-plugh-twisty"


@pytest.mark.parametrize("logged", [False, True])
def test_prompts_are_in_the_log_only_if_asked(logged: bool, server: Any, strict: Any) -> None:
    asked = strict if logged else server
    with httpx.Client(base_url=asked.url, timeout=60, headers=AUTHORIZED) as http:
        talk = [{"role": "user", "content": SECRET}]
        for path, body in (
            ("/v1/completions", {**ASK, "prompt": SECRET}),
            ("/v1/chat/completions", {**TALK, "messages": talk}),
        ):
            http.post(path, json=body).raise_for_status()
        for wrong in (
            {"prompt": SECRET, "temperature": -1},
            {"prompt": {SECRET: 1}},
            {"prompt": "a", "stop": [SECRET] * 100},
            {"prompt": "a", SECRET: 1},
            {"prompt": "a", "structured_outputs": {"regex": f"({SECRET}"}},
            {"prompt": "a", "structured_outputs": {"grammar": SECRET}},
        ):
            check_error(http.post("/v1/completions", json={**ASK, **wrong}), 400)
    assert (SECRET in asked.logged()) == logged
