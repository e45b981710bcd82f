"""LangChain's OpenAI classes against the server: chat, completions, tools, structured output."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from tests.server.clients import MODEL, PROMPT

langchain_openai = pytest.importorskip("langchain_openai", reason="langchain-openai is missing")


class Answer(BaseModel):
    """What the model must fill in."""

    verdict: Literal["good", "bad"]
    score: int = Field(ge=0, le=9)


class Weather(BaseModel):
    """Weather of a city."""

    city: Literal["Oslo", "Rome"]


@pytest.fixture
def chat(server: Any) -> Any:
    return langchain_openai.ChatOpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        model=MODEL,
        max_tokens=100,
        seed=3,
        temperature=1.0,
        max_retries=0,
    )


def test_invoke_and_stream(chat: Any) -> None:
    whole = chat.invoke("Write a function.")
    pieces = list(chat.stream("Write a function."))
    assert whole.content
    assert "".join(piece.content for piece in pieces) == whole.content
    assert len(pieces) > 5
    usage = whole.usage_metadata
    assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"]
    assert usage["output_tokens"] >= 5


def test_loops_by_extra_body(chat: Any) -> None:
    texts = {
        chat.bind(extra_body={"loops": loops}, temperature=0).invoke("Write.").content
        for loops in (1, 2)
    }
    assert len(texts) == 2


def test_bind_tools(chat: Any) -> None:
    for choice in ("Weather", "any"):
        answer = chat.bind_tools([Weather], tool_choice=choice).invoke("What is it like?")
        assert answer.invalid_tool_calls == []
        assert len(answer.tool_calls) == 1 or choice == "any"
        for call in answer.tool_calls:
            assert call["name"] == "Weather"
            assert call["args"]["city"] in ("Oslo", "Rome")
    free = chat.bind_tools([Weather]).invoke("What is it like?")
    assert free.invalid_tool_calls == []


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_with_structured_output(chat: Any, method: str) -> None:
    answer = chat.with_structured_output(Answer, method=method).invoke("Is it good?")
    assert isinstance(answer, Answer)


def test_completions(server: Any) -> None:
    model = langchain_openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        model=MODEL,
        max_tokens=16,
        temperature=0,
        max_retries=0,
    )
    whole = model.invoke(PROMPT)
    assert whole
    assert "".join(model.stream(PROMPT)) == whole
    assert len(model.generate([PROMPT, "class A:"]).generations) == 2
