"""`response_format` and tools with the official client: what comes back always parses and fits."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from tests.server.clients import HELLO, MODEL, gather, openai_client

CITIES = ["Oslo", "Rome"]
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "enum": CITIES},
                    "days": {"type": "integer", "minimum": 1, "maximum": 9},
                },
                "required": ["city", "days"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "stop_clock",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        },
    },
]
NAMED = {"type": "function", "function": {"name": "get_weather"}}


class Point(BaseModel):
    """A small schema whose values are bounded, so that an untrained model ends."""

    kind: Literal["circle", "square"]
    size: int = Field(ge=0, le=99)
    filled: bool
    tags: list[Literal["a", "b"]] = Field(max_length=2)


@pytest.fixture(scope="module")
def client(server: Any) -> Iterator[OpenAI]:
    with openai_client(server.url) as opened:
        yield opened


def chat(client: OpenAI, **fields: Any) -> Any:
    settled = {"temperature": 1, "seed": 1, "max_tokens": 200, "messages": HELLO, **fields}
    return client.chat.completions.create(model=MODEL, **settled)


@pytest.mark.parametrize("seed", range(3))
def test_parse_gives_the_pydantic_object(client: OpenAI, seed: int) -> None:
    given = client.chat.completions.parse(
        model=MODEL, messages=HELLO, response_format=Point, seed=seed, temperature=1.2
    )
    (choice,) = given.choices
    assert choice.finish_reason == "stop"
    point = choice.message.parsed
    assert isinstance(point, Point)
    assert Point.model_validate_json(choice.message.content or "") == point


def test_the_stream_helper_parses_too(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=HELLO, response_format=Point, seed=5
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert isinstance(final.choices[0].message.parsed, Point)


@pytest.mark.parametrize("loops", [1, 2])
def test_json_object(client: OpenAI, loops: int) -> None:
    """Any object; where the limit cuts it, finish_reason says so."""
    fields = {
        "response_format": {"type": "json_object"},
        "n": 4,
        "max_tokens": 60,
        "extra_body": {"loops": loops},
    }
    given = chat(client, **fields)
    for choice in given.choices:
        assert choice.message.content.lstrip().startswith("{")
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
    streamed, _ = gather(chat(client, stream=True, **fields))
    texts = [choice.message.content for choice in given.choices]
    assert [streamed[i].text for i in range(4)] == texts


def test_json_schema_holds_in_every_continuation(client: OpenAI) -> None:
    schema = {
        "name": "shape",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 999}},
            "required": ["n"],
            "additionalProperties": False,
        },
    }
    given = chat(client, response_format={"type": "json_schema", "json_schema": schema}, n=4)
    for choice in given.choices:
        value = json.loads(choice.message.content)
        assert set(value) == {"n"}
        assert 0 <= value["n"] <= 999


def test_response_format_text_changes_nothing(client: OpenAI) -> None:
    plain = chat(client, max_tokens=12).choices[0].message.content
    text = chat(client, max_tokens=12, response_format={"type": "text"})
    assert text.choices[0].message.content == plain


def check_call(call: Any) -> None:
    """The name is a tool's, the arguments fit its schema."""
    assert call.type == "function"
    assert call.id
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        assert set(arguments) == {"city", "days"}
        assert arguments["city"] in CITIES
        assert 1 <= arguments["days"] <= 9
    else:
        assert call.function.name == "stop_clock"
        assert arguments == {}


def put_together(chunks: Any) -> tuple[list[dict[str, str]], str | None]:
    """Tool calls of a streamed choice as `name`, `arguments`, `id`, and the finish reason."""
    calls: list[dict[str, str]] = []
    reason = None
    for chunk in chunks:
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            for part in choice.delta.tool_calls or []:
                if part.index == len(calls):
                    assert part.type == "function"
                    calls.append({"id": part.id, "name": part.function.name, "arguments": ""})
                calls[part.index]["arguments"] += part.function.arguments or ""
    return calls, reason


@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("seed", range(3))
def test_a_tool_must_be_called(client: OpenAI, choice: Any, seed: int) -> None:
    fields = {"tools": TOOLS, "tool_choice": choice, "seed": seed, "parallel_tool_calls": False}
    given = chat(client, **fields).choices[0]
    assert given.finish_reason == "tool_calls" or (
        choice is NAMED and given.finish_reason == "stop"
    )
    (call,) = given.message.tool_calls
    check_call(call)
    assert choice == "required" or call.function.name == "get_weather"
    calls, reason = put_together(chat(client, stream=True, **fields))
    assert reason == given.finish_reason
    assert [(c["name"], c["arguments"]) for c in calls] == [
        (call.function.name, call.function.arguments)
    ]
    assert calls[0]["id"]


def test_several_calls_have_places_and_names_of_their_own(client: OpenAI) -> None:
    """Unless told otherwise a model may call again and again; this one does, until the limit."""
    fields = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 150, "seed": 2}
    given = chat(client, **fields).choices[0]
    assert len(given.message.tool_calls) > 1
    for call in given.message.tool_calls:
        check_call(call)
    calls, reason = put_together(chat(client, stream=True, **fields))
    assert reason == given.finish_reason
    assert [(c["name"], c["arguments"]) for c in calls] == [
        (c.function.name, c.function.arguments) for c in given.message.tool_calls
    ]
    assert len({c["id"] for c in calls}) == len(calls)


def test_auto_is_text_or_a_call(client: OpenAI) -> None:
    """The model decides; whichever it is, it is whole."""
    for seed in range(4):
        given = chat(client, tools=TOOLS, seed=seed, max_tokens=40).choices[0]
        for call in given.message.tool_calls or []:
            check_call(call)
        assert given.message.tool_calls or given.message.content is not None
        streamed = list(chat(client, tools=TOOLS, seed=seed, max_tokens=40, stream=True))
        calls, reason = put_together(streamed)
        assert reason == given.finish_reason
        assert len(calls) == len(given.message.tool_calls or [])
        if not calls:
            assert gather(streamed)[0][0].text == given.message.content


def test_tool_choice_none_is_text(client: OpenAI) -> None:
    given = chat(client, tools=TOOLS, tool_choice="none", max_tokens=12).choices[0]
    assert not given.message.tool_calls
    assert given.message.content


def test_a_call_and_its_result_go_back_to_the_model(client: OpenAI) -> None:
    given = chat(client, tools=TOOLS, tool_choice="required").choices[0].message
    assert given.tool_calls
    messages: list[Any] = [*HELLO, given.model_dump(exclude_none=True)]
    for call in given.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "12 degrees"})
    answer = chat(client, messages=messages, tools=TOOLS, tool_choice="none", max_tokens=8)
    assert answer.choices[0].message.content is not None
    assert answer.usage.prompt_tokens > 30


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        ({"tool_choice": "required"}, "tool"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "nope"}}},
            "nope",
        ),
        ({"tools": [{"type": "function"}]}, "function"),
        ({"tools": [TOOLS[0], TOOLS[0]], "tool_choice": "required"}, "get_weather"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "json_schema"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "strin"}},
                }
            },
            "strin",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"$ref": "#/$defs/no"}},
                }
            },
            "/$defs/no",
        ),
        ({"extra_body": {"structured_outputs": {"regex": "("}}}, "regex"),
        ({"extra_body": {"structured_outputs": {}}}, "structured"),
        (
            {
                "response_format": {"type": "json_object"},
                "extra_body": {"structured_outputs": {"choice": ["a"]}},
            },
            "structured_outputs",
        ),
    ],
)
def test_what_cannot_be_is_refused(client: OpenAI, fields: dict[str, Any], about: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **fields)
    body: Any = caught.value.body
    assert about in f"{body['message']} {body['param']}"


@pytest.mark.parametrize(
    ("structured", "texts"),
    [
        ({"choice": ["yes", "no"]}, {"yes", "no"}),
        ({"regex": "[ab]{3}-1"}, None),
        ({"grammar": 'start: "x" | "y"'}, {"x", "y"}),
    ],
)
def test_structured_outputs_of_completions(
    client: OpenAI, structured: dict[str, Any], texts: set[str] | None
) -> None:
    given = client.completions.create(
        model=MODEL,
        prompt="def f(",
        n=3,
        seed=1,
        max_tokens=30,
        extra_body={"structured_outputs": structured},
    )
    for choice in given.choices:
        assert choice.finish_reason == "stop"
        if texts is None:
            assert len(choice.text) == 5
            assert set(choice.text[:3]) <= {"a", "b"}
        else:
            assert choice.text in texts
