"""inspect-ai's settings as sampling parameters."""

import pytest

pytest.importorskip("inspect_ai")

from inspect_ai.model import GenerateConfig, ResponseSchema
from inspect_ai.util import JSONSchema

from loopcoder.errors import RequestError
from loopcoder.eval.provider.params import DEFAULT_MAX_TOKENS, sampling_params
from loopcoder.types import SamplingParams


def test_unset_is_the_default() -> None:
    assert sampling_params(GenerateConfig()) == SamplingParams(max_tokens=DEFAULT_MAX_TOKENS)


def test_every_setting_arrives() -> None:
    config = GenerateConfig(
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        seed=3,
        stop_seqs=["\n"],
        num_choices=2,
        logprobs=True,
        top_logprobs=4,
        frequency_penalty=0.1,
        extra_body={"loops": 2, "min_p": 0.05, "raw_prompt": True, "suffix": "x"},
    )
    assert sampling_params(config) == SamplingParams(
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        seed=3,
        stop=("\n",),
        n=2,
        logprobs=4,
        frequency_penalty=0.1,
        loops=2,
        min_p=0.05,
    )


def test_a_schema_is_a_grammar() -> None:
    schema = JSONSchema(type="object", properties={"a": JSONSchema(type="integer")})
    config = GenerateConfig(response_schema=ResponseSchema(name="x", json_schema=schema))
    structured = sampling_params(config).structured_outputs
    assert structured is not None
    assert structured.json == {"type": "object", "properties": {"a": {"type": "integer"}}}


def test_unknown_fields() -> None:
    with pytest.raises(RequestError, match="extra_body has beams"):
        sampling_params(GenerateConfig(extra_body={"beams": 4}))
