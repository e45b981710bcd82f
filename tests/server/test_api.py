"""The wire itself: what no client library would show, and the endpoints beside OpenAI's."""

import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from loopcoder import LLM, SamplingParams, __version__
from tests.server.clients import HELLO, MODEL, PROMPT, tokenizer

GREEDY: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "temperature": 0, "max_tokens": 12}
TALK: dict[str, Any] = {"model": MODEL, "messages": HELLO, "temperature": 0, "max_tokens": 12}
ENDPOINTS = [("/v1/completions", GREEDY), ("/v1/chat/completions", TALK)]


@pytest.fixture(scope="module")
def http(server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def post(http: httpx.Client, path: str, body: Any) -> Any:
    return http.post(path, json=body).raise_for_status().json()


def events(http: httpx.Client, path: str, body: Any) -> list[Any]:
    """A stream's events, decoded; its framing is checked on the way."""
    with http.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] in ("no-store", "no-cache")
        assert "content-length" not in response.headers
        raw = response.read().decode()
    assert raw.endswith("\n\n")
    blocks = raw[:-2].split("\n\n")
    assert blocks.pop() == "data: [DONE]"
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [json.loads(block[6:]) for block in blocks]


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
def test_a_stream_is_server_sent_events(http: httpx.Client, path: str, body: Any) -> None:
    found = events(http, path, body)
    reasons = [choice["finish_reason"] for event in found for choice in event["choices"]]
    assert reasons[-1] in ("stop", "length")
    assert set(reasons[:-1]) == {None}


def test_health_and_version(http: httpx.Client) -> None:
    assert http.get("/health").status_code == 200
    assert http.get("/version").json()["version"] == __version__


def test_tokens_there_and_back(http: httpx.Client) -> None:
    for text in (PROMPT, "naïve 🙂 漢字", " \n\t", "<|im_start|>user"):
        tokens = post(http, "/tokenize", {"model": MODEL, "prompt": text})
        assert tokens["tokens"] == tokenizer()(text)["input_ids"]
        assert tokens["count"] == len(tokens["tokens"])
        assert tokens["max_model_len"] == 2048
        back = post(http, "/detokenize", {"model": MODEL, "tokens": tokens["tokens"]})
        assert back["prompt"] == text
    talk = post(http, "/tokenize", {"model": MODEL, "messages": HELLO})
    answered = post(http, "/v1/chat/completions", TALK)
    assert talk["count"] == answered["usage"]["prompt_tokens"]
    for bad in ({"tokens": [8192]}, {"tokens": [-1]}, {"tokens": "no"}, {}):
        assert http.post("/detokenize", json=bad).status_code == 400
    assert http.post("/tokenize", json={}).status_code == 400


def test_loops_run_and_are_counted(http: httpx.Client, server: Any) -> None:
    """A request at one loop runs no row of a second one."""
    texts = []
    for loops in (1, 2):
        before = server.idle()["rows"]
        texts.append(post(http, "/v1/completions", {**GREEDY, "loops": loops}))
        after = server.idle()["rows"]
        ran = {r: after[r] - before.get(r, 0) for r in after}
        assert ran["1"] >= 11
        assert (ran.get("2", 0) >= 11) == (loops == 2)
    assert texts[0]["choices"][0]["text"] != texts[1]["choices"][0]["text"]
    default = post(http, "/v1/completions", GREEDY)
    assert default["choices"][0]["text"] == texts[1]["choices"][0]["text"]


def check_lens(entry: dict[str, Any], loops: int, width: int) -> None:
    """Shapes and ranges of one token's lens."""
    assert set(entry) == {
        "token",
        "token_id",
        "bytes",
        "logprob",
        "rank",
        "entropy",
        "shift",
        "candidates",
        "gate",
    }
    assert entry["bytes"] == list(tokenizer_bytes(entry["token_id"]))
    assert [len(entry[name]) for name in ("logprob", "rank", "entropy", "candidates")] == [
        loops
    ] * 4
    assert [len(entry["shift"]), len(entry["gate"])] == [loops - 1] * 2
    assert all(value <= 0 for value in entry["logprob"])
    assert all(1 <= rank <= 8192 for rank in entry["rank"])
    assert all(0 <= value <= math.log(8192) for value in entry["entropy"])
    assert all(value >= -1e-6 for value in entry["shift"])
    assert all(len(gate) == 4 and all(0 <= g <= 1 for g in gate) for gate in entry["gate"])
    for seen, own, rank in zip(entry["candidates"], entry["logprob"], entry["rank"], strict=True):
        assert len(seen) == width
        values = [candidate["logprob"] for candidate in seen]
        assert values == sorted(values, reverse=True)
        among = [c["logprob"] for c in seen if c["token_id"] == entry["token_id"]]
        assert bool(among) == (rank <= width)
        assert not among or among[0] == pytest.approx(own)


def tokenizer_bytes(token_id: int) -> bytes:
    """Bytes of an ordinary token, by the byte-level alphabet that its text is written in."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    back = {letter: byte for byte, letter in bytes_to_unicode().items()}
    return bytes(back[letter] for letter in tokenizer().convert_ids_to_tokens(token_id))


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
@pytest.mark.parametrize("loops", [1, 2, 3])
def test_the_loop_lens(http: httpx.Client, path: str, body: Any, loops: int) -> None:
    asked = {**body, "loops": loops, "loop_lens": 3, "ignore_eos": True}
    (choice,) = post(http, path, asked)["choices"]
    lens = choice["loop_lens"]
    assert len(lens) == 12
    for entry in lens:
        check_lens(entry, loops, 3)
        assert entry["rank"][-1] == 1  # greedy
    text = choice.get("text") or choice["message"]["content"]
    assert b"".join(bytes(entry["bytes"]) for entry in lens).decode(errors="replace") == text
    streamed: list[Any] = []
    for event in events(http, path, asked):
        for piece in event["choices"]:
            streamed += piece.get("loop_lens") or []
    assert [entry["token_id"] for entry in streamed] == [entry["token_id"] for entry in lens]
    for one, other in zip(streamed, lens, strict=True):
        assert one["logprob"] == pytest.approx(other["logprob"], abs=0.05)


def test_the_lens_is_the_engines(http: httpx.Client) -> None:
    params = SamplingParams(max_tokens=12, temperature=0.0, loop_lens=2)
    output = LLM(MODEL, max_num_seqs=1).generate(PROMPT, params)[0].outputs[0]
    lens = post(http, "/v1/completions", {**GREEDY, "loop_lens": 2})["choices"][0]["loop_lens"]
    assert output.loop_lens is not None
    for entry, mine in zip(lens, output.loop_lens, strict=True):
        assert entry["entropy"] == pytest.approx(mine.entropy, abs=0.05)
        assert entry["shift"] == pytest.approx(mine.shift, abs=0.05)
        for gate, own in zip(entry["gate"], mine.gate, strict=True):
            assert gate == pytest.approx(own, abs=0.02)


def test_lens_zero_names_no_candidates(http: httpx.Client) -> None:
    (choice,) = post(http, "/v1/completions", {**GREEDY, "loop_lens": 0})["choices"]
    assert all(entry["candidates"] == [[], []] for entry in choice["loop_lens"])
    (plain,) = post(http, "/v1/completions", GREEDY)["choices"]
    assert plain["text"] == choice["text"]
    assert plain.get("loop_lens") is None
    assert http.post("/v1/completions", json={**GREEDY, "loop_lens": 21}).status_code == 400


def test_the_lens_of_tokens_whose_text_is_held_back(http: httpx.Client) -> None:
    """One entry a token and never one too many, also over split characters and a stop string."""
    forced = {"structured_outputs": {"choice": ["a 🙂 b <STOP> c"]}, "max_tokens": 40}
    asked = {**GREEDY, **forced, "loop_lens": 1, "stop": "<STOP>"}
    (choice,) = post(http, "/v1/completions", asked)["choices"]
    assert choice["text"] == "a 🙂 b "
    whole = b"".join(bytes(entry["bytes"]) for entry in choice["loop_lens"])
    assert "a 🙂 b <STOP>".encode().startswith(whole)
    ids = [
        entry["token_id"]
        for event in events(http, "/v1/completions", asked)
        for piece in event["choices"]
        for entry in piece.get("loop_lens") or []
    ]
    assert ids == [entry["token_id"] for entry in choice["loop_lens"]]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/chat/completions", 405),
        ("GET", "/page/../settings.py", 404),
        ("GET", "/page/%2e%2e/settings.py", 404),
        ("GET", "/page/..%2fsettings.py", 404),
        ("GET", "/page//etc/passwd", 404),
        ("GET", "/v1/models/" + "a" * 3000, 404),
        ("GET", "/v1/models/%00", 404),
    ],
)
def test_unknown_places_are_told_in_openais_shape(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    response = http.request(method, path, json={} if method == "POST" else None)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(response.content) < 4000
    assert error["type"] == "invalid_request_error"
    if status == 405:
        assert response.headers["allow"]


def test_the_openapi_document_names_every_endpoint(http: httpx.Client) -> None:
    found = http.get("/openapi.json").json()["paths"]
    assert {
        "/v1/models",
        "/v1/models/{name}",
        "/v1/completions",
        "/v1/chat/completions",
        "/tokenize",
        "/detokenize",
        "/health",
        "/version",
        "/metrics",
        "/stats",
    } <= set(found)


def test_no_other_site_may_read_answers(http: httpx.Client) -> None:
    """No CORS header, and what a page elsewhere can send without asking is refused."""
    other = {"Origin": "https://example.org"}
    response = http.get("/v1/models", headers=other)
    assert not any(name.startswith("access-control") for name in response.headers)
    simple = http.post(
        "/v1/completions",
        content=json.dumps(GREEDY),
        headers={**other, "Content-Type": "text/plain"},
    )
    assert simple.status_code in (400, 415)
