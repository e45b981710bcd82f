"""Requests that ask for many things at once: the same streamed, and every promise kept."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.clients import HELLO, MODEL

pytestmark = pytest.mark.slow

PROMPTS = ["def add(a, b):\n", "naïve 🙂 = ", [5, 900, 17], ["import os\n", "class A:"]]
FORMS = [
    {"choice": ["yes 🙂", "no, never"]},
    {"regex": "[a-c]{2,6}( 漢字)?"},
    {"json": {"type": "object", "properties": {"a": {"enum": ["é", "🙂"]}}, "required": ["a"]}},
    {"json_object": True},
    {"grammar": 'start: "a" start | "b"'},
]
COMMON = {
    "n": st.integers(1, 3),
    "max_tokens": st.integers(1, 14),
    "temperature": st.sampled_from([0, 0.7, 1.5]),
    "top_p": st.sampled_from([0.3, 0.9]),
    "top_k": st.sampled_from([1, 20]),
    "min_p": st.sampled_from([0.05]),
    "stop": st.sampled_from(["e", " ", ["\n", "re"], ["🙂"], ["zzzz", "(se"]]),
    "presence_penalty": st.sampled_from([-1, 1.5]),
    "repetition_penalty": st.sampled_from([0.8, 1.3]),
    "logit_bias": st.sampled_from([{"2": 100}, {"12": -100, "900": 5}]),
    "min_tokens": st.integers(0, 14),
    "ignore_eos": st.booleans(),
    "stop_token_ids": st.sampled_from([[12, 13], list(range(200, 300))]),
    "include_stop_str_in_output": st.booleans(),
    "skip_special_tokens": st.booleans(),
    "structured_outputs": st.sampled_from(FORMS),
    "loops": st.integers(1, 3),
    "loop_lens": st.integers(0, 3),
}
COMPLETION = {
    **COMMON,
    "echo": st.booleans(),
    "logprobs": st.integers(0, 4),
    "suffix": st.sampled_from(["", "\n\nprint(1)"]),
}
CHAT = {**COMMON, "logprobs": st.booleans()}
EVERYTHING = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def bodies(optional: dict[str, Any], **fixed: Any) -> Any:
    """A body with any of the optional fields."""
    settled = {"model": st.just(MODEL), "seed": st.integers(0, 99), **fixed}
    return st.fixed_dictionaries(settled, optional=optional)


def whole(url: str, body: dict[str, Any]) -> tuple[dict[int, dict[str, Any]], Any] | None:
    """Choices by index and usage; None where the request is refused."""
    response = httpx.post(url, json=body, timeout=60)
    if response.status_code == 400:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        return None
    assert response.status_code == 200, f"{response.text} for {body}"
    answer = response.json()
    return {choice["index"]: told(choice) for choice in answer["choices"]}, answer["usage"]


def told(choice: dict[str, Any]) -> dict[str, Any]:
    """What a choice, or a chunk's, says."""
    message = choice.get("message") or choice.get("delta") or {"content": choice.get("text")}
    logprobs = choice.get("logprobs") or {}
    content = logprobs.get("content") or []
    return {
        "text": message.get("content") or "",
        "reason": choice["finish_reason"],
        "tokens": logprobs.get("tokens") or [entry["bytes"] for entry in content],
        "offsets": logprobs.get("text_offset") or [],
        "lens": [entry["token_id"] for entry in choice.get("loop_lens") or []],
    }


def streamed(url: str, body: dict[str, Any]) -> tuple[dict[int, dict[str, Any]], Any]:
    """The same from a stream."""
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    response = httpx.post(url, json=asked, timeout=60)
    assert response.status_code == 200, response.text
    lines = [line[6:] for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    assert not any("error" in event for event in events), events[-1]
    choices: dict[int, dict[str, Any]] = {}
    for event in events[:-1]:
        for choice in event["choices"]:
            piece = told(choice)
            one = choices.setdefault(choice["index"], told({"finish_reason": None, "text": ""}))
            for name in ("text", "tokens", "offsets", "lens"):
                one[name] = one[name] + piece[name]
            one["reason"] = piece["reason"]
    return choices, events[-1]["usage"]


def check(url: str, body: dict[str, Any]) -> None:
    """Both ways the same, and the promises of the fields that are there."""
    given = whole(url, body)
    if given is None:
        refused = httpx.post(url, json={**body, "stream": True}, timeout=60)
        assert refused.status_code == 400
        return
    choices, usage = given
    if body.get("echo") and body.get("logprobs") is not None:
        return  # lm-eval's way to score; there is no stream of it
    assert streamed(url, body)[0] == choices, body
    assert usage["completion_tokens"] <= body.get("max_tokens", 16) * len(choices)
    for choice in choices.values():
        assert choice["reason"] in ("stop", "length")
        check_text(body, choice)


def check_text(body: dict[str, Any], choice: dict[str, Any]) -> None:
    """Stop strings are gone, forms are whole, tokens are the text."""
    if body.get("echo"):
        return
    stops = body.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    if not (body.get("include_stop_str_in_output") or body.get("min_tokens")):
        assert not any(stop in choice["text"] for stop in stops), (body, choice["text"])
    form = body.get("structured_outputs", {})
    plain = not stops and "stop_token_ids" not in body
    if plain and choice["reason"] == "stop" and ("json" in form or "json_object" in form):
        assert isinstance(json.loads(choice["text"]), dict)
    if plain and choice["reason"] == "stop" and "choice" in form:
        assert choice["text"] in form["choice"]
    if choice["tokens"] and isinstance(choice["tokens"][0], list):
        joined = bytes(byte for token in choice["tokens"] for byte in token)
        assert joined.decode(errors="replace") == choice["text"] or stops


@settings(EVERYTHING, max_examples=30)
@given(body=bodies(COMPLETION, prompt=st.sampled_from(PROMPTS)))
def test_completions(server: Any, body: dict[str, Any]) -> None:
    check(f"{server.url}/v1/completions", body)


@settings(EVERYTHING, max_examples=20)
@given(body=bodies(CHAT, messages=st.just(HELLO)))
def test_chat(server: Any, body: dict[str, Any]) -> None:
    check(f"{server.url}/v1/chat/completions", {"max_tokens": 12, **body})


@pytest.mark.slow
@settings(EVERYTHING, max_examples=300)
@given(body=bodies(COMPLETION, prompt=st.sampled_from(PROMPTS)))
def test_many_completions(server: Any, body: dict[str, Any]) -> None:
    check(f"{server.url}/v1/completions", body)


@pytest.mark.slow
@settings(EVERYTHING, max_examples=150)
@given(body=bodies(CHAT, messages=st.just(HELLO)))
def test_many_chats(server: Any, body: dict[str, Any]) -> None:
    check(f"{server.url}/v1/chat/completions", {"max_tokens": 12, **body})
