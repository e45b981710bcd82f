"""`LLM`: a checkpoint, and text out of it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.locate import locate
from loopcoder.checkpoint.tokenizer import end_token_ids, load_tokenizer
from loopcoder.engine.decode import decode
from loopcoder.engine.text import TextStream
from loopcoder.errors import RequestError
from loopcoder.types import CompletionOutput, RequestOutput, SamplingParams, StreamEvent

Prompt = str | Sequence[int]
Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Request:
    prompt: str | None
    token_ids: list[int]
    params: SamplingParams
    limit: int


class LLM:
    """A model that answers prompts, one at a time (names are vLLM's; INTERFACE.md).

    `model` is a bundled name, a directory or a hub id. `dtype` is auto, float32 or bfloat16;
    `device` auto takes the GPU if there is one. `loops` replaces the model's own loop count;
    `num_threads` sets torch's threads for the whole process. `schedule` "serial" runs the loops of
    a token one after another: the same text, and the yardstick for speed.

    Raises `LoopCoderError` for a checkpoint or argument that cannot be used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_model_len: int | None = None,
        loops: int | None = None,
        num_threads: int | None = None,
        schedule: Literal["parallel", "serial"] = "parallel",
    ) -> None:
        if schedule not in ("parallel", "serial"):
            raise RequestError(f"schedule is {schedule!r}; it must be 'parallel' or 'serial'")
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        directory = locate(model)
        self.device = _device(device)
        self.model = load_model(directory, dtype=dtype, device=self.device)
        self.tokenizer = load_tokenizer(directory)
        self.end_token_ids = end_token_ids(directory, self.tokenizer)
        self.loops = self.model.model.check_loops(loops)
        self.max_model_len = _max_model_len(
            max_model_len, self.model.config.max_position_embeddings
        )
        self._together = schedule == "parallel"

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Complete each prompt (text or token ids), with one set of parameters or one each."""
        several = _as_prompts(prompts)
        each = _as_params(sampling_params, len(several))
        requests = [self._request(p, params) for p, params in zip(several, each, strict=True)]
        return [self._complete(request) for request in requests]

    def stream(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None
    ) -> Iterator[StreamEvent]:
        """Complete one prompt, an event for each token. Bad input raises here, not later."""
        request = self._request(prompt, sampling_params or SamplingParams())
        return self._events(request)

    def chat(
        self, messages: Sequence[Message], sampling_params: SamplingParams | None = None
    ) -> RequestOutput:
        """Answer a conversation of `{"role", "content"}` messages with the chat template."""
        request = self._request(self.chat_tokens(messages), sampling_params or SamplingParams())
        return self._complete(request)

    def chat_tokens(self, messages: Sequence[Message]) -> list[int]:
        """The conversation as token ids, up to where the answer begins."""
        if self.tokenizer is None or not self.tokenizer.chat_template:
            raise RequestError(
                "this checkpoint has no chat template; use generate(), or a model tuned for chat"
            )
        encoded: Any = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
        )
        return list(encoded["input_ids"])

    def _request(self, prompt: Prompt, params: SamplingParams) -> _Request:
        params = params if params.loops else replace(params, loops=self.loops)
        self.model.model.check_loops(params.loops)
        token_ids = self.encode(prompt)
        room = self.max_model_len - len(token_ids)
        if room < 1:
            raise RequestError(
                f"the prompt has {len(token_ids)} tokens and max_model_len is "
                f"{self.max_model_len}; shorten the prompt to {self.max_model_len - 1} or fewer"
            )
        if params.stop and self.tokenizer is None:
            raise RequestError("stop strings need a tokenizer, and this checkpoint has none")
        return _Request(
            prompt=prompt if isinstance(prompt, str) else None,
            token_ids=token_ids,
            params=params,
            limit=min(params.max_tokens, room),
        )

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, checked against the vocabulary."""
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise RequestError("this checkpoint has no tokenizer; give the prompt as token ids")
            token_ids = list(self.tokenizer(prompt)["input_ids"])
            bos = self.tokenizer.bos_token_id
            token_ids = token_ids or ([] if bos is None else [bos])
        else:
            token_ids = list(prompt)
        vocabulary = self.model.config.vocab_size
        outside = [t for t in token_ids if not 0 <= t < vocabulary]
        if outside:
            raise RequestError(f"token id {outside[0]} is outside the vocabulary of {vocabulary}")
        if not token_ids:
            raise RequestError("the prompt is empty; give at least one token")
        return token_ids

    def _events(self, request: _Request) -> Iterator[StreamEvent]:
        params = request.params
        ends = set(params.stop_token_ids) | (set() if params.ignore_eos else self.end_token_ids)
        text = (
            TextStream(self.tokenizer, request.token_ids, params.stop) if self.tokenizer else None
        )
        tokens = decode(self.model, request.token_ids, params, together=self._together)
        with closing(tokens):
            for count, token_id in enumerate(tokens, start=1):
                piece = text.push(token_id) if text and token_id not in ends else ""
                reason = None
                if token_id in ends or (text and text.stopped):
                    reason = "stop"
                elif count == request.limit:
                    reason = "length"
                if reason and text:
                    piece += text.flush()
                yield StreamEvent(token_id=token_id, text=piece, finish_reason=reason)
                if reason:
                    return

    def _complete(self, request: _Request) -> RequestOutput:
        events = list(self._events(request))
        output = CompletionOutput(
            index=0,
            text="".join(event.text for event in events) if self.tokenizer else None,
            token_ids=[event.token_id for event in events],
            finish_reason=events[-1].finish_reason,
        )
        return RequestOutput(
            prompt=request.prompt, prompt_token_ids=request.token_ids, outputs=[output]
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"device is {name!r}, which cannot be used here: {reason}") from error
    return device


def _max_model_len(asked: int | None, positions: int) -> int:
    if asked is None:
        return positions
    if not 1 <= asked <= positions:
        raise RequestError(
            f"max_model_len is {asked}; this model has {positions} positions, so give 1 to "
            f"{positions}"
        )
    return asked


def _as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
        return [prompts]  # type: ignore[list-item]  # the test above tells one from several
    return list(prompts)  # type: ignore[arg-type]


def _as_params(
    params: SamplingParams | Sequence[SamplingParams] | None, count: int
) -> list[SamplingParams]:
    if params is None:
        params = SamplingParams()
    if isinstance(params, SamplingParams):
        return [params] * count
    if len(params) != count:
        raise RequestError(f"{len(params)} sampling parameters for {count} prompts; give one each")
    return list(params)
