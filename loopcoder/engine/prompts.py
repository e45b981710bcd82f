"""Prompts in, requests out: token ids, chat templates, and the checks before anything runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from numbers import Integral
from typing import Any

from loopcoder.engine.sampling_state import check_vocabulary
from loopcoder.engine.sequence import Request
from loopcoder.errors import RequestError
from loopcoder.model.config import ModelConfig
from loopcoder.types import SamplingParams

Prompt = str | Sequence[int]
Message = Mapping[str, Any]


class PromptReader:
    """Turns what users give into requests for one model.

    `max_model_len` None is what the model has positions for. `loops` are run where the parameters
    name none (None: the model's own count). Needs no weights, and no torch. Raises `RequestError`
    for bad input.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Any,
        *,
        max_model_len: int | None = None,
        loops: int | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.max_model_len = _max_model_len(max_model_len, config.max_position_embeddings)
        self.loops = config.check_loops(loops)
        self._numbers = count()

    def request(self, prompt: Prompt, params: SamplingParams) -> Request:
        """A request with token ids, loop count and token limit settled."""
        params = params if params.loops else replace(params, loops=self.loops)
        self.config.check_loops(params.loops)
        check_vocabulary(params, self.config.vocab_size)
        token_ids = self.encode(prompt)
        room = self.max_model_len - len(token_ids)
        if room < 1:
            raise RequestError(
                f"the prompt has {len(token_ids)} tokens and max_model_len is "
                f"{self.max_model_len}; shorten the prompt to {self.max_model_len - 1} or fewer"
            )
        if params.stop and self.tokenizer is None:
            raise RequestError("stop strings need a tokenizer, and this checkpoint has none")
        return Request(
            request_id=str(next(self._numbers)),
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_token_ids=token_ids,
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
            token_ids = _token_ids(prompt)
        vocabulary = self.config.vocab_size
        outside = [t for t in token_ids if not 0 <= t < vocabulary]
        if outside:
            raise RequestError(f"token id {outside[0]} is outside the vocabulary of {vocabulary}")
        if not token_ids:
            raise RequestError("the prompt is empty; give at least one token")
        return token_ids

    def chat_tokens(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The conversation as token ids, up to where the answer begins; see `chat_text`."""
        text = self.chat_text(messages, tools, options)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def chat_text(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation in the chat template, which also sees `tools` and `options`."""
        if self.tokenizer is None or not self.tokenizer.chat_template:
            raise RequestError(
                "this checkpoint has no chat template; use completions, or a model tuned for chat"
            )
        try:
            text: str = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=None if tools is None else [dict(tool) for tool in tools],
                add_generation_prompt=True,
                tokenize=False,
                **(options or {}),
            )
        except Exception as error:  # a template is a program of the checkpoint's and may refuse
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise RequestError(f"the chat template refused the messages: {reason[0]}") from error
        return text


def _max_model_len(asked: int | None, positions: int) -> int:
    if asked is None:
        return positions
    if not 1 <= asked <= positions:
        raise RequestError(
            f"max_model_len is {asked}; this model has {positions} positions, so give 1 to "
            f"{positions}"
        )
    return asked


def _token_ids(prompt: object) -> list[int]:
    """A list, tuple or array of whole numbers as Python's own."""
    listed: list[Any] = list(prompt) if isinstance(prompt, Iterable) else [None]
    if not all(isinstance(t, Integral) and not isinstance(t, bool) for t in listed):
        shown = repr(prompt)
        shown = shown if len(shown) < 60 else f"{shown[:57]}..."
        raise RequestError(f"a prompt is {shown}; it must be text or a list of token ids")
    return [int(t) for t in listed]


def as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as a list."""
    one = isinstance(prompts, str) or not isinstance(prompts, Sequence)
    if one or (prompts and isinstance(prompts[0], Integral)):
        return [prompts]  # type: ignore[list-item]  # the test above tells one from several
    return list(prompts)  # type: ignore[arg-type]


def as_params(
    params: SamplingParams | Sequence[SamplingParams] | None, number: int
) -> list[SamplingParams]:
    """One set of parameters for each of `number` prompts."""
    if params is None:
        params = SamplingParams()
    if isinstance(params, SamplingParams):
        return [params] * number
    if len(params) != number:
        raise RequestError(f"{len(params)} sampling parameters for {number} prompts; give one each")
    return list(params)
