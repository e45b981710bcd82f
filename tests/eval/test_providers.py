"""Our models in inspect-ai: in this process and behind an endpoint, without any network."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("inspect_ai")

from tests.server.serving import serving

NOWHERE = "http://127.0.0.1:9"
MODEL = "loopcoder-nano"

SCRIPT = """
import asyncio, json, sys
from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model
from inspect_ai.tool import ToolInfo, ToolParams
from loopcoder.eval.provider.chat import has_chat

async def main():
    name, url = sys.argv[1], sys.argv[2] or None
    arguments = {} if url else {"num_threads": 1}
    async with get_model(name, base_url=url, **arguments) as model:
        greedy = GenerateConfig(max_tokens=16, temperature=0.0, max_retries=0)
        def body(**fields):
            return greedy.model_copy(update={"extra_body": {"raw_prompt": True, **fields}})

        raw, middle, one = body(), body(suffix="return x"), body(loops=1)
        hello = [ChatMessageUser(content="Hi")]
        prompts = ["def f(", "class Stack:\\n", "import ", "x = "]
        answers = await asyncio.gather(*(model.generate(p, config=raw) for p in prompts))
        tool = ToolInfo(name="add", description="Add.", parameters=ToolParams())
        print(json.dumps({
            "raw": [a.completion for a in answers],
            "one loop": (await model.generate("class Stack:\\n", config=one)).completion,
            "middle": (await model.generate("def f(x):\\n", config=middle)).completion,
            "chat": (await model.generate(hello, config=greedy)).completion,
            "tools": (await model.generate("Hi", tools=[tool], config=greedy)).stop_reason,
            "usage": answers[0].usage.output_tokens,
            "counted": await model.api.count_text_tokens("def f(x): return x"),
            "has_chat": await has_chat(model),
        }))
asyncio.run(main())
"""


def _said(directory: Path, name: str, url: str = "") -> dict[str, object]:
    blocked = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), name, url],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=directory,
        env={**os.environ, **blocked, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_both_providers_say_what_the_engine_says(tmp_path: Path) -> None:
    from loopcoder import LLM, SamplingParams

    here = _said(tmp_path, f"loopcoder/{MODEL}")
    with serving("--dtype", "auto") as server:
        there = _said(tmp_path, f"loopcoder-api/{MODEL}", f"{server.url}/v1")
    llm = LLM(MODEL)
    params = SamplingParams(max_tokens=16, temperature=0.0)
    expected = [o.outputs[0].text for o in llm.generate(["def f(", "class Stack:\n"], params)]
    assert here["raw"][:2] == expected
    for what in ("raw", "one loop", "middle", "chat", "usage", "has_chat"):
        assert here[what] == there[what], what
    assert here["one loop"] != here["raw"][1]
    assert here["counted"] == there["counted"] == len(llm.encode("def f(x): return x"))
    assert here["tools"] in ("max_tokens", "stop", "tool_calls")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inspect-ai's use of tenacity
def test_an_endpoint_that_is_not_there() -> None:
    from inspect_ai.model import GenerateConfig, get_model

    async def ask() -> None:
        config = GenerateConfig(max_retries=0, max_tokens=4, extra_body={"raw_prompt": True})
        async with get_model("loopcoder-api/x", base_url=f"{NOWHERE}/v1") as model:
            assert await model.api.count_text_tokens("abc") == 2  # a guess; nobody else is asked
            with pytest.raises(Exception, match="APIConnectionError"):
                await model.generate("x", config=config)

    asyncio.run(ask())
