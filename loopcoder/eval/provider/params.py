"""inspect-ai's generation settings as ours."""

from dataclasses import fields
from typing import Any

from inspect_ai.model import GenerateConfig

from loopcoder.errors import RequestError
from loopcoder.types import SamplingParams, StructuredOutputsParams

RAW = "raw_prompt"  # in `extra_body`: the only message is a text to go on with, no conversation
SUFFIX = "suffix"  # with it: what follows the gap to fill
DEFAULT_MAX_TOKENS = 2048

_SAME = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "prompt_logprobs",
)


def sampling_params(config: GenerateConfig) -> SamplingParams:
    """The settings of one request; what is unset is the engine's default, `max_tokens` 2048.

    `extra_body` may hold every other field of `SamplingParams` (`loops`, `min_p`, ...), and
    `raw_prompt` and `suffix`. Raises `RequestError` for a field there that is neither.
    """
    extra = {k: v for k, v in (config.extra_body or {}).items() if k not in (RAW, SUFFIX)}
    unknown = sorted(set(extra) - {field.name for field in fields(SamplingParams)})
    if unknown:
        raise RequestError(
            f"extra_body has {', '.join(unknown)}, which the engine does not know; give fields of "
            f"SamplingParams, {RAW} or {SUFFIX}"
        )
    given: dict[str, Any] = {name: getattr(config, name) for name in _SAME}
    given["n"] = config.num_choices
    given["stop"] = config.stop_seqs
    if config.logprobs:
        given["logprobs"] = config.top_logprobs or 0
    if config.response_schema is not None:
        schema = config.response_schema.json_schema.model_dump(exclude_none=True, by_alias=True)
        given["structured_outputs"] = StructuredOutputsParams(json=schema)
    given |= extra
    set_values = {name: value for name, value in given.items() if value is not None}
    return SamplingParams(**{"max_tokens": DEFAULT_MAX_TOKENS} | set_values)
