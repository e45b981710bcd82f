"""A seed promises one text, in any company, in the native formats too: nano's own weights.

Float64 and float32 round a row nearly the same in any batch; bfloat16 does not, so here every
log-probability is compared, not only the tokens. Equal to the last bit: the products are, and so
far the attention of a prompt's chunks is.
"""

from functools import cache

import pytest

from loopcoder import LLM, SamplingParams
from loopcoder.types import RequestOutput

PROMPT = "def area(width, height):\n    return"
SEEDED = SamplingParams(seed=5, temperature=0.9, max_tokens=40, n=2, logprobs=1)
LONG = ["# a long file\n" + "x = [1, 2, 3]\n" * 40 * i for i in (1, 2, 3)]


@cache
def _llm(quantization: str | None) -> LLM:
    return LLM("loopcoder-nano", quantization=quantization, max_num_seqs=8)


def _told(output: RequestOutput) -> list[list[float]]:
    return [
        [found[token].logprob for found, token in zip(o.logprobs or [], o.token_ids, strict=True)]
        for o in output.outputs
    ]


@pytest.mark.parametrize("quantization", [None, "int8", "int4"])
def test_a_seeded_text_is_the_same_in_any_company(quantization: str | None) -> None:
    llm = _llm(quantization)
    alone = llm.generate(PROMPT, SEEDED)[0]
    others = SamplingParams(temperature=1.0, max_tokens=60, ignore_eos=True)
    for prompts in ([PROMPT, *LONG], [*LONG, PROMPT], [LONG[2], PROMPT, PROMPT + " "]):
        params = [SEEDED if prompt == PROMPT else others for prompt in prompts]
        among = llm.generate(prompts, params)[prompts.index(PROMPT)]
        assert [o.token_ids for o in among.outputs] == [o.token_ids for o in alone.outputs]
        assert _told(among) == _told(alone)


def test_a_seeded_prompt_takes_nothing_that_others_have_computed() -> None:
    llm = _llm(None)
    unseeded = SamplingParams(max_tokens=4, temperature=0.0)
    llm.generate([LONG[0], *LONG], unseeded)
    before = llm.stats()["prefix_tokens_hit"]
    first = llm.generate(LONG[0], SEEDED)[0]
    assert llm.stats()["prefix_tokens_hit"] == before
    assert first.num_cached_tokens == 0
    assert _told(llm.generate(LONG[0], SEEDED)[0]) == _told(first)
    # Others may reuse it.
    assert llm.generate(LONG[0] + "y", unseeded)[0].num_cached_tokens > 0
