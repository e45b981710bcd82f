"""Prompts in, requests out."""

import numpy as np
import pytest

from loopcoder.engine.prompts import PromptReader, as_params, as_prompts
from loopcoder.errors import RequestError
from loopcoder.types import SamplingParams
from tests.engine.helpers import small_plt
from tests.small import byte_tokenizer

TOKENIZER = byte_tokenizer()


def _reader(*, tokenizer: object = TOKENIZER, **fields: object) -> PromptReader:
    return PromptReader(small_plt(**fields).config, tokenizer, max_model_len=20, loops=1)


def test_a_request_has_everything_settled() -> None:
    reader = _reader()
    text, ids = reader.request("abc", SamplingParams()), reader.request((1, 2), SamplingParams())
    assert text.prompt == "abc"
    assert text.prompt_token_ids == TOKENIZER("abc")["input_ids"]
    assert (text.loops, text.limit) == (1, 17)
    assert (ids.prompt, ids.prompt_token_ids) == (None, [1, 2])
    assert text.request_id != ids.request_id
    asked = reader.request([1], SamplingParams(loops=3, max_tokens=4))
    assert (asked.loops, asked.limit) == (3, 4)


@pytest.mark.parametrize(
    ("prompt", "params", "message"),
    [
        ([], {}, "empty"),
        ("", {}, "empty"),
        ([256], {}, "256 is outside the vocabulary of 256"),
        ([1, -1], {}, "-1 is outside"),
        ([1] * 20, {}, "20 tokens and max_model_len is 20; shorten the prompt to 19"),
        ([1], {"stop_token_ids": [256]}, "stop_token_ids has token id 256"),
    ],
)
def test_bad_prompts_say_what_is_wrong(
    prompt: object, params: dict[str, object], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        _reader().request(prompt, SamplingParams(**params))


def test_without_a_tokenizer() -> None:
    reader = _reader(tokenizer=None)
    assert reader.request([1, 2], SamplingParams()).prompt_token_ids == [1, 2]
    for call in (
        lambda: reader.encode("text"),
        lambda: reader.chat_tokens([{"role": "user", "content": "hi"}]),
        lambda: reader.request([1], SamplingParams(stop="x")),
    ):
        with pytest.raises(RequestError, match="this checkpoint has no"):
            call()


def test_a_model_without_gates_runs_one_loop() -> None:
    with pytest.raises(RequestError, match="loops is 2; this model can run 1 loop only"):
        _reader(plt_num_loops=1).request([1], SamplingParams(loops=2))


def test_one_prompt_or_several() -> None:
    assert as_prompts("ab") == ["ab"]
    assert as_prompts([1, 2]) == [[1, 2]]
    assert as_prompts(["ab", [1]]) == ["ab", [1]]
    assert as_prompts([[1], [2]]) == [[1], [2]]
    assert as_prompts([]) == []


def test_one_set_of_parameters_or_one_each() -> None:
    one, two = SamplingParams(max_tokens=1), SamplingParams(max_tokens=2)
    assert as_params(None, 2) == [SamplingParams()] * 2
    assert as_params(one, 2) == [one, one]
    assert as_params([one, two], 2) == [one, two]
    with pytest.raises(RequestError, match="1 sampling parameters for 2 prompts"):
        as_params([one], 2)


@pytest.mark.parametrize("prompt", [None, ["a", "b"], [1.5], [True], {"text": 1}])
def test_what_is_no_prompt_is_refused_by_what_it_is(prompt: object) -> None:
    for given in as_prompts([prompt]):  # type: ignore[list-item]
        with pytest.raises(RequestError, match="text or a list of token ids"):
            _reader().encode(given)


def test_token_ids_may_be_numpys() -> None:
    assert _reader().encode(np.array([3, 4])) == [3, 4]  # type: ignore[arg-type]
    assert len(as_prompts(np.array([3, 4]))) == 1  # type: ignore[arg-type]
