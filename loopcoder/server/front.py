"""What all routes share: the model as the front knows it, the engine's client, the limits."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from inspect import signature
from typing import Any

from loopcoder.engine.prompts import PromptReader
from loopcoder.engine.sequence import Request
from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.model.config import ModelConfig
from loopcoder.model.cost import parameters
from loopcoder.server.engine_client import Answer, EngineClient
from loopcoder.server.errors import APIError
from loopcoder.server.grammar_check import GrammarCheck
from loopcoder.server.messages import Token
from loopcoder.server.metrics import Metrics
from loopcoder.server.settings import ServerSettings
from loopcoder.server.tools import knows_tools, special_tags
from loopcoder.types import SamplingParams, StructuredOutputsParams

_LONG_TEXT = 20_000  # characters; tokenizing more is left to a thread


@dataclass(kw_only=True)
class Front:
    """One model behind one engine process."""

    name: str
    settings: ServerSettings
    reader: PromptReader
    client: EngineClient
    facts: dict[str, Any]
    metrics: Metrics
    grammars: GrammarCheck | None
    started: float = field(default_factory=time.time)
    stopping: bool = False

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.reader.config

    @property
    def tokenizer(self) -> Any:
        """The `transformers` tokenizer. Raises `APIError` for a checkpoint without one."""
        if self.reader.tokenizer is None:
            raise APIError(400, "this model has no tokenizer; send prompts as token ids")
        return self.reader.tokenizer

    @cached_property
    def texts(self) -> TokenTexts | None:
        """Tokens as bytes."""
        return None if self.reader.tokenizer is None else TokenTexts(self.reader.tokenizer)

    def card(self) -> dict[str, Any]:
        """The model's entry in `/v1/models`."""
        return {
            "id": self.name,
            "object": "model",
            "created": int(self.started),
            "owned_by": "loopcoder",
            "root": self.name,
            "max_model_len": self.reader.max_model_len,
            "loops": self.reader.loops,
            "most_loops": self.most_loops,
            "layers": self.config.num_hidden_layers,
            "parameters": parameters(self.config).total,
            "chat": bool(self.reader.tokenizer and self.reader.tokenizer.chat_template),
            **self.facts,
        }

    @property
    def most_loops(self) -> int:
        """Loops that a request may ask for: more than twice the model's own make no sense."""
        own = self.config.plt_num_loops
        return 1 if own == 1 else max(4, 2 * own)

    def check_model(self, name: str | None) -> None:
        """Raise `APIError` unless `name` is the model that is served."""
        if name not in (None, "", self.name):
            shown = f"{name[:80]}"
            raise APIError(
                404,
                f"The model `{shown}` does not exist; this server has `{self.name}`",
                param="model",
                code="model_not_found",
            )

    async def encode(self, prompt: str | Sequence[int]) -> list[int]:
        """Token ids. Raises `APIError` 413 for a prompt that leaves no room for an answer."""
        most = self.reader.max_model_len - 1
        if isinstance(prompt, str) and len(prompt) > _LONG_TEXT:
            if len(prompt) > most * self._longest_token:
                raise too_long(f"more than {len(prompt) // self._longest_token}", most)
            token_ids = await asyncio.to_thread(self.reader.encode, prompt)
        else:
            if len(prompt) > most * 1000:
                raise too_long(str(len(prompt)), most)
            token_ids = self.reader.encode(prompt)
        self.check_length(token_ids)
        return token_ids

    async def chat_tokens(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Mapping[str, Any] | None,
    ) -> list[int]:
        """A conversation as token ids. Raises as `encode`, and for what the template refuses."""
        own = signature(self.tokenizer.apply_chat_template).parameters
        taken = sorted(own.keys() & (options or {}).keys())
        if taken:
            raise APIError(
                400,
                f"chat_template_kwargs has {taken[0]}; it is for variables of the template's own",
                param="chat_template_kwargs",
            )
        text = self.reader.chat_text(messages, tools, options)
        token_ids = await self.plain_tokens(text, special=False)
        self.check_length(token_ids)
        return token_ids

    async def plain_tokens(self, text: str, *, special: bool) -> list[int]:
        """A text as token ids, however many, with the tokenizer's own begin token if `special`."""
        work = partial(self.tokenizer, text, add_special_tokens=special)
        found = await asyncio.to_thread(work) if len(text) > _LONG_TEXT else work()
        return list(found["input_ids"])

    @cached_property
    def knows_tools(self) -> bool:
        """Whether the chat template shows tools by itself."""
        return knows_tools(self.reader.chat_text)

    @cached_property
    def special_tags(self) -> bool:
        """Whether the tags of a tool call are special tokens."""
        return special_tags(self.tokenizer)

    def check_length(self, token_ids: Sequence[int]) -> None:
        """Raise `APIError` 413 for a prompt that leaves no room for an answer."""
        most = self.reader.max_model_len - 1
        if len(token_ids) > most:
            raise too_long(str(len(token_ids)), most)

    @cached_property
    def _longest_token(self) -> int:
        """The most characters that one token stands for."""
        return max(len(token) for token in self.tokenizer.get_vocab())

    async def requests(self, prompts: Sequence[list[int]], params: SamplingParams) -> list[Request]:
        """Requests of the same parameters, checked: a grammar by compiling it elsewhere."""
        if params.loops is not None and params.loops > self.most_loops > 1:
            raise APIError(
                400, f"loops is {params.loops}; give 1 to {self.most_loops}", param="loops"
            )
        if params.structured_outputs is not None:
            await self._check_grammar(params.structured_outputs)
        return [self.reader.request(token_ids, params) for token_ids in prompts]

    async def _check_grammar(self, wanted: StructuredOutputsParams) -> None:
        if self.grammars is None:
            raise APIError(
                400, "this model has no tokenizer, so it knows no text to hold to a form"
            )
        loop = asyncio.get_running_loop()
        # In a thread of their own: they may take seconds, and other texts have to be read.
        await loop.run_in_executor(self._grammar_thread, self.grammars.check, wanted)

    @cached_property
    def _grammar_thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="grammars")

    @contextmanager
    def _deadline(self, answer: Answer) -> Iterator[None]:
        """One timer a request: a time-out for each token would cost more than the rest."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self.settings.request_timeout, answer.put, TimeoutError())
        try:
            yield
        finally:
            timer.cancel()

    async def tokens(self, requests: Sequence[Request]) -> AsyncGenerator[list[Token], None]:
        """The tokens of requests as they come. Leaving the loop stops the work.

        Raises what `Answer.next` raises, `TimeoutError` past the time a request may take, and
        `APIError` where the model gives no numbers (NaN) for one of them.
        """
        watch = self.metrics.watch(requests)
        with self.client.submit(requests) as answer, watch, self._deadline(answer):
            while tokens := await answer.next():
                watch.see(tokens)
                if any(token.finish_reason == "error" for token in tokens):
                    raise APIError(
                        500,
                        "the model gave no numbers (NaN or infinity) after this prompt, or failed "
                        "at it; other requests are not affected",
                        code="model_error",
                    )
                yield tokens


def too_long(tokens: str, most: int) -> APIError:
    """The error for a prompt of so many tokens, in the words that clients look for (litellm)."""
    return APIError(
        413,
        f"this model's maximum context length is {most} tokens and the prompt has {tokens}; "
        "shorten it",
        param="prompt",
        code="context_length_exceeded",
    )
