"""Who and how much may come in, and what the log keeps."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.server.clients import ASK, MODEL, TALK, check_error, openai_client
from tests.server.serving import serving

KEYS = ("first-key", "second-key-which-is-longer")
AUTHORIZED = {"Authorization": f"Bearer {KEYS[0]}"}


@pytest.fixture(scope="module")
def http(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


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
