"""`AsyncLLM`: the same text as `LLM`, together, and nothing left of what was cancelled."""

import asyncio
from collections.abc import Iterator

import pytest

from loopcoder import LLM, SamplingParams
from loopcoder.engine.asynchronous import AsyncLLM
from loopcoder.errors import RequestError

PROMPTS = ["def f(", "import ", "class A", "x = "]
PARAMS = SamplingParams(max_tokens=12, temperature=0.0)


@pytest.fixture
def engine() -> Iterator[AsyncLLM]:
    engine = AsyncLLM(LLM("loopcoder-nano", max_num_seqs=4))
    yield engine
    engine.close()


def test_many_tasks_get_what_one_caller_gets(engine: AsyncLLM) -> None:
    async def ask() -> list[str | None]:
        outputs = await asyncio.gather(*(engine.generate(p, PARAMS) for p in PROMPTS))
        return [output.outputs[0].text for output in outputs]

    together = asyncio.run(ask())
    steps = engine.llm.stats()["steps"]
    alone = [o.outputs[0].text for o in LLM("loopcoder-nano").generate(PROMPTS, PARAMS)]
    assert together == alone
    assert steps < len(PROMPTS) * PARAMS.max_tokens  # they shared steps


def test_a_cancelled_task_leaves_nothing(engine: AsyncLLM) -> None:
    async def ask() -> None:
        long = SamplingParams(max_tokens=100_000, ignore_eos=True)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.generate("def ", long), 0.3)
        await engine.generate("x", PARAMS)  # the engine goes on, and drops what was cancelled
        assert not engine.llm.engine.busy

    asyncio.run(ask())


def test_bad_input_is_its_own_tasks_alone(engine: AsyncLLM) -> None:
    async def ask() -> None:
        bad = engine.generate([10**9], PARAMS)
        good = engine.generate("def f(", PARAMS)
        first, second = await asyncio.gather(bad, good, return_exceptions=True)
        assert isinstance(first, RequestError)
        assert not isinstance(second, BaseException)

    asyncio.run(ask())


def test_after_close(engine: AsyncLLM) -> None:
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(engine.generate("x", PARAMS))
