"""A seed gives one text, whatever else the server is doing and however it is asked for."""

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.server.clients import HELLO, MODEL, PROMPT

SEEDED: dict[str, Any] = {"temperature": 1.0, "seed": 42, "max_tokens": 24, "n": 3}


def others() -> list[dict[str, Any]]:
    """Eight other requests, of other lengths, loop counts, seeds and prompts."""
    return [
        {
            "prompt": f"# file {i}\n" + "x = 1\n" * (20 * i),
            "temperature": 0.2 * i,
            "seed": i,
            "max_tokens": 8 + 6 * i,
            "extra_body": {"loops": 1 + i % 2},
        }
        for i in range(8)
    ]


async def completion(client: AsyncOpenAI, stream: bool, **fields: Any) -> list[str]:
    given: Any = await client.completions.create(model=MODEL, stream=stream, **fields)
    if not stream:
        return [choice.text for choice in given.choices]
    texts: dict[int, str] = {}
    async for chunk in given:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    return [texts[i] for i in sorted(texts)]


async def conversation(client: AsyncOpenAI, stream: bool, **fields: Any) -> list[str]:
    given: Any = await client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=stream, **fields
    )
    if not stream:
        return [choice.message.content for choice in given.choices]
    texts: dict[int, str] = {}
    async for chunk in given:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    return [texts[i] for i in sorted(texts)]


async def _among(client: AsyncOpenAI, request: Any) -> list[str]:
    noise = [
        asyncio.create_task(completion(client, i % 2 == 0, **f)) for i, f in enumerate(others())
    ]
    await asyncio.sleep(0.05)  # some of them have begun
    texts: list[str] = await request
    await asyncio.gather(*noise)
    return texts


async def _every_way(url: str, chat: bool) -> list[list[str]]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

        def ask(stream: bool) -> Any:
            if chat:
                return conversation(client, stream, **SEEDED)
            return completion(client, stream, prompt=PROMPT, **SEEDED)

        alone = [await ask(False), await ask(True)]
        busy = [await _among(client, ask(stream)) for stream in (False, True, True)]
        return [*alone, *busy]


@pytest.mark.parametrize("chat", [False, True])
def test_a_seed_is_one_text_whatever_else_runs(server: Any, chat: bool) -> None:
    ways = asyncio.run(_every_way(server.url, chat))
    assert all(way == ways[0] for way in ways[1:])
    assert len(set(ways[0])) == 3


def test_without_a_seed_texts_differ(server: Any) -> None:
    async def twice() -> list[list[str]]:
        async with AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0
        ) as client:
            fields = {"prompt": PROMPT, "temperature": 1.0, "max_tokens": 24}
            return [await completion(client, False, **fields) for _ in range(2)]

    first, second = asyncio.run(twice())
    assert first != second
