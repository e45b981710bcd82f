"""`LLM`: a checkpoint, and text out of it."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch

from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.locate import locate
from loopcoder.checkpoint.tokenizer import end_token_ids, load_tokenizer
from loopcoder.engine.build import EngineSettings, build_engine
from loopcoder.engine.core import Update
from loopcoder.engine.device import usable_device
from loopcoder.engine.prompts import Message, Prompt, PromptReader, as_params, as_prompts
from loopcoder.engine.sequence import Request
from loopcoder.errors import GenerationError
from loopcoder.model.products import fuse
from loopcoder.types import RequestOutput, SamplingParams, StreamEvent


class LLM:
    """A model that answers many prompts at once (names are vLLM's; INTERFACE.md).

    `model` is a bundled name, a directory or a hub id. `dtype` is auto, float32 or bfloat16;
    `quantization` int8 or int4 keeps the weights of linears in 8 or 4 bits; `device` auto takes the
    GPU if there is one. `loops` replaces the model's own loop count; `num_threads` sets torch's
    threads for the whole process. `schedule` "serial" runs the loops of a token one after
    another, `prefill` "full" all loops on all of a prompt: the same text, and the yardsticks for
    speed. The other arguments are those of `EngineSettings`.

    Not for several threads at once. Raises `LoopCoderError` for a checkpoint or argument that
    cannot be used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        dtype: str = "auto",
        quantization: str | None = None,
        device: str = "auto",
        max_num_seqs: int = 16,
        max_model_len: int | None = None,
        loops: int | None = None,
        num_threads: int | None = None,
        schedule: Literal["parallel", "serial"] = "parallel",
        prefill: Literal["tail", "full"] = "tail",
        max_num_batched_tokens: int | None = None,
        kv_cache_memory_bytes: int | None = None,
        enable_prefix_caching: bool = True,
    ) -> None:
        settings = EngineSettings(
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            kv_cache_memory_bytes=kv_cache_memory_bytes,
            enable_prefix_caching=enable_prefix_caching,
            schedule=schedule,
            prefill=prefill,
        )
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        directory = locate(model)
        self.device = usable_device(device)
        self.model = load_model(
            directory, dtype=dtype, device=self.device, quantization=quantization
        )
        fuse(self.model)
        self.tokenizer = load_tokenizer(directory)
        self.end_token_ids = end_token_ids(directory, self.tokenizer)
        self._reader = PromptReader(
            self.model.config, self.tokenizer, max_model_len=max_model_len, loops=loops
        )
        self.loops, self.max_model_len = self._reader.loops, self._reader.max_model_len
        self.engine = build_engine(
            self.model,
            settings,
            max_model_len=self.max_model_len,
            loops=self.loops,
            end_token_ids=self.end_token_ids,
            tokenizer=self.tokenizer,
        )
        self._mail: dict[str, deque[Update]] = {}

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> list[RequestOutput]:
        """Complete each prompt (text or token ids), with one set of parameters or one each.

        All of them run together; bad input raises before any does. A sequence for which the model
        gives no numbers (NaN) ends with finish_reason "error", the others go on.
        """
        several = as_prompts(prompts)
        each = as_params(sampling_params, len(several))
        requests = [self.request(p, params) for p, params in zip(several, each, strict=True)]
        outputs: dict[str, RequestOutput] = {}
        try:
            for request in requests:
                self._add(request)
            for request in requests:
                for update in self._updates(request.request_id):
                    if update.output is not None:
                        outputs[request.request_id] = update.output
        finally:
            for request in requests:
                self._drop(request.request_id)
        return [outputs[request.request_id] for request in requests]

    def stream(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None
    ) -> Iterator[StreamEvent]:
        """Complete one prompt, an event for each token. Bad input raises here, not later.

        Several streams may be read in turn; each step serves all of them. Closing the iterator
        stops the work. Raises `GenerationError` where the model gives no numbers (NaN).
        """
        return self._stream(self.request(prompt, sampling_params or SamplingParams()))

    def _stream(self, request: Request) -> Iterator[StreamEvent]:
        try:
            self._add(request)
            for update in self._updates(request.request_id):
                if update.event is None:
                    raise GenerationError(
                        "the model's logits are not numbers (NaN or infinite) after this prompt; "
                        "check the weights, or try dtype='float32'"
                    )
                yield update.event
        finally:
            self._drop(request.request_id)

    def chat(
        self, messages: Sequence[Message], sampling_params: SamplingParams | None = None
    ) -> RequestOutput:
        """Answer a conversation of `{"role", "content"}` messages with the chat template."""
        return self.generate([self.chat_tokens(messages)], sampling_params)[0]

    def request(self, prompt: Prompt, params: SamplingParams) -> Request:
        """A request that the engine can run, for those who step it themselves (`AsyncLLM`)."""
        request = self._reader.request(prompt, params)
        self.engine.check(request)
        return request

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, checked against the vocabulary."""
        return self._reader.encode(prompt)

    def chat_tokens(self, messages: Sequence[Message]) -> list[int]:
        """The conversation as token ids, up to where the answer begins."""
        return self._reader.chat_tokens(messages)

    def stats(self) -> dict[str, Any]:
        """Counters: steps, rows and prefill rows by loop, tokens, KV bytes, prefix hits."""
        return self.engine.stats()

    def _add(self, request: Request) -> None:
        self._mail[request.request_id] = deque()
        self.engine.add(request)

    def _updates(self, request_id: str) -> Iterator[Update]:
        """A request's updates, stepping the engine (for everyone) whenever there are none."""
        mail = self._mail[request_id]
        finished = False
        while not finished:
            while not mail:
                for update in self.engine.step():
                    self._mail[update.request_id].append(update)
            update = mail.popleft()
            finished = update.output is not None
            yield update

    def _drop(self, request_id: str) -> None:
        self.engine.abort(request_id)
        self._mail.pop(request_id, None)
