"""From a request's fields to `SamplingParams`, within the server's limits."""

import json
from typing import Any

from loopcoder.server.errors import APIError
from loopcoder.server.schemas import GenerationBody, StructuredOutputs
from loopcoder.server.settings import ServerSettings
from loopcoder.types import SamplingParams, StructuredOutputsParams

_PLAIN = (
    "temperature",
    "n",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "top_k",
    "min_p",
    "repetition_penalty",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "skip_special_tokens",
    "loops",
    "loop_lens",
)


def sampling_params(
    body: GenerationBody,
    settings: ServerSettings,
    *,
    max_tokens: int,
    logprobs: int | None,
    prompt_logprobs: int | None = None,
    structured: StructuredOutputsParams | None = None,
    shows_special: bool = False,
) -> SamplingParams:
    """What the engine is to do. Fields that the body leaves out have OpenAI's defaults.

    Raises `APIError` for what this server does not allow, `RequestError` for what makes no sense.
    """
    _check_limits(body, settings, logprobs)
    if structured is not None and body.structured_outputs is not None:
        raise APIError(
            400,
            "structured_outputs does not go with response_format or with tools that may be "
            "called; leave one of them out",
            param="structured_outputs",
        )
    given = {name: getattr(body, name) for name in _PLAIN if getattr(body, name) is not None}
    if body.top_p is not None:
        # 0, which OpenAI allows, leaves the likeliest token alone, as the least number does.
        given["top_p"] = body.top_p or 1e-9
    if shows_special:
        given["skip_special_tokens"] = False
    return SamplingParams(
        **given,
        max_tokens=max_tokens,
        min_tokens=min(body.min_tokens or 0, max_tokens),
        stop=_stop(body, settings),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        structured_outputs=structured or _structured(body.structured_outputs, settings),
    )


def _check_limits(body: GenerationBody, settings: ServerSettings, logprobs: int | None) -> None:
    check_most("n", body.n, settings.max_n)
    check_most("logprobs", logprobs, settings.max_logprobs)
    check_most("loop_lens", body.loop_lens, settings.max_logprobs)
    if body.min_tokens is not None and body.min_tokens < 0:
        raise APIError(400, f"min_tokens is {body.min_tokens}; give 0 or more", param="min_tokens")
    for name, most in (("logit_bias", 1024), ("stop_token_ids", 128)):
        check_most(f"the length of {name}", len(getattr(body, name) or ()), most)


def check_most(name: str, value: int | None, most: int | None) -> None:
    """Raise `APIError` for a value beyond the server's limit."""
    if value is not None and most is not None and value > most:
        param = name.rsplit(" ", 1)[-1]
        raise APIError(400, f"{name} is {value}; this server allows {most} at most", param=param)


def token_limit(name: str, asked: int | None, default: int, settings: ServerSettings) -> int:
    """How many tokens may be written. Raises `APIError` beyond the server's limit."""
    most = settings.max_tokens
    if asked is None:
        return default if most is None else min(default, most)
    if asked < 0:
        raise APIError(400, f"{name} is {asked}; give 0 or more", param=name)
    check_most(name, asked, most)
    return asked


def _stop(body: GenerationBody, settings: ServerSettings) -> tuple[str, ...]:
    """Empty strings, which OpenAI passes over, stop nothing."""
    listed = [body.stop] if isinstance(body.stop, str) else body.stop or []
    check_most("the number of stop strings in stop", len(listed), settings.max_stop)
    longest = max((len(text) for text in listed), default=0)
    check_most("the length of a string in stop", longest, settings.max_stop_length)
    return tuple(text for text in listed if text)


def _structured(
    given: StructuredOutputs | None, settings: ServerSettings
) -> StructuredOutputsParams | None:
    if given is None:
        return None
    check_schema(given.model_dump(), "structured_outputs", settings)
    return StructuredOutputsParams(
        json=given.json_,
        json_object=given.json_object,
        regex=given.regex,
        choice=tuple(given.choice or ()),
        grammar=given.grammar,
    )


def check_schema(value: Any, name: str, settings: ServerSettings) -> None:
    """Raise `APIError` for a schema or grammar that is larger than the server allows."""
    size = len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    if size > settings.max_schema_bytes:
        raise APIError(
            400,
            f"{name} has {size} bytes; this server allows {settings.max_schema_bytes} at most",
            param=name,
        )
