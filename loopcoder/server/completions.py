"""`POST /v1/completions`."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from loopcoder.checkpoint.infill import infill_prompt
from loopcoder.server.choice import Entry
from loopcoder.server.errors import APIError
from loopcoder.server.front import Front
from loopcoder.server.job import Job, Said
from loopcoder.server.logprobs import CompletionLogprobs, token_details
from loopcoder.server.params import check_most, sampling_params, token_limit
from loopcoder.server.reply import respond
from loopcoder.server.schemas import CompletionBody, StreamOptions
from loopcoder.types import Logprob

_DEFAULT_TOKENS = 16  # OpenAI's
_KIND = "text_completion"


def routes(front: Front) -> APIRouter:
    """The route, bound to one model."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def completions(request: Request, body: CompletionBody) -> Response:
        """Continue one prompt or several (OpenAI's completions)."""
        front.check_model(body.model)
        completion = await _prepare(front, body)
        return await respond(request, body, completion, front.settings.request_timeout)

    return router


@dataclass(frozen=True, kw_only=True)
class _Completion:
    """A job and what its answer shows: `echoed` is the text of each prompt, if it is shown."""

    job: Job
    echoed: Sequence[str] | None
    top: int | None
    lens: int | None
    ids: bool

    async def whole(self) -> dict[str, Any]:
        """The whole answer."""
        texts, entries = self._begin(), [list[Entry]() for _ in self.job.choices]
        reasons: list[str | None] = [None] * len(texts)
        async for batch in self.job.said():
            for number, piece in batch:
                texts[number] += piece.text
                entries[number] += piece.entries
                reasons[number] = piece.finish_reason
        choices = [
            self._choice(number, texts[number], self._logprobs(number, entries[number]), reason)
            | self._details(entries[number])
            for number, reason in enumerate(reasons)
        ]
        return {**self.job.envelope(_KIND, choices), "usage": self.job.usage()}

    def events(self, options: StreamOptions) -> AsyncGenerator[bytes, None]:
        """The answer as a stream of server-sent events."""
        texts = self._begin()
        reports = [self._report(len(text)) for text in texts]

        def choice(said: Said) -> dict[str, Any]:
            number, piece = said
            text, texts[number] = texts[number] + piece.text, ""
            report = reports[number]
            logprobs = None if report is None else report.of(_pairs(piece.entries))
            shown = self._choice(number, text, logprobs, piece.finish_reason)
            return shown | self._details(piece.entries)

        return self.job.events(_KIND, choice, options)

    def _begin(self) -> list[str]:
        """What each choice's text begins with."""
        if self.echoed is None:
            return [""] * len(self.job.choices)
        return [text for text in self.echoed for _ in range(self.job.n)]

    def _choice(
        self, number: int, text: str, logprobs: dict[str, Any] | None, reason: str | None
    ) -> dict[str, Any]:
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _details(self, entries: Sequence[Entry]) -> dict[str, Any]:
        return token_details(self.job.front.texts, entries, ids=self.ids, lens=self.lens)

    def _report(self, offset: int) -> CompletionLogprobs | None:
        texts = self.job.front.texts
        if self.top is None or texts is None:
            return None
        return CompletionLogprobs(texts, self.top, offset)

    def _logprobs(self, number: int, entries: Sequence[Entry]) -> dict[str, Any] | None:
        """Those of the tokens written, behind those of the prompt where it is echoed."""
        report = self._report(0)
        if report is None:
            return None
        pairs = _pairs(entries)
        place = number // self.job.n
        end = self.job.ends[place]
        if self.echoed is not None and end is not None and end.prompt_logprobs is not None:
            token_ids = self.job.requests[place].prompt_token_ids
            pairs = [*zip(token_ids, end.prompt_logprobs, strict=True), *pairs]
        return report.of(pairs)


def _pairs(entries: Sequence[Entry]) -> list[tuple[int, dict[int, Logprob] | None]]:
    return [(entry.token_id, entry.logprobs) for entry in entries]


async def _prepare(front: Front, body: CompletionBody) -> _Completion:
    """Check everything before anything runs."""
    if body.best_of not in (None, body.n or 1):
        raise APIError(400, "best_of is not offered; leave it out, or equal to n", param="best_of")
    if body.stream and body.echo and body.logprobs is not None:
        raise APIError(400, "a stream has no echo with logprobs; ask without stream", param="echo")
    if body.logprobs is not None and front.texts is None:
        raise APIError(400, "logprobs need a tokenizer, and this model has none", param="logprobs")
    prompts = _prompts(body)
    check_most("the number of prompts in prompt", len(prompts), front.settings.max_prompts)
    asked = token_limit("max_tokens", body.max_tokens, _DEFAULT_TOKENS, front.settings)
    params = sampling_params(
        body,
        front.settings,
        max_tokens=max(asked, 1),  # the engine writes one token at least; `empty` drops it
        logprobs=body.logprobs,
        prompt_logprobs=body.logprobs if body.echo else None,
    )
    token_ids = [await _encode(front, prompt, body.suffix) for prompt in prompts]
    echoed = [_echo(front, *pair) for pair in zip(prompts, token_ids, strict=True)]
    ids = body.return_token_ids or front.texts is None  # which is all that there is to tell then
    job = Job(
        front,
        await front.requests(token_ids, params),
        prefix="cmpl",
        detailed=ids or body.logprobs is not None or body.loop_lens is not None,
        empty=asked == 0,
    )
    return _Completion(
        job=job,
        echoed=echoed if body.echo else None,
        top=body.logprobs,
        lens=body.loop_lens,
        ids=ids,
    )


def _prompts(body: CompletionBody) -> list[str | list[int]]:
    """A prompt is a text or token ids; a list of either is several. None given: an empty one."""
    prompt = body.prompt
    if prompt is None:
        return [""]
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise APIError(400, "prompt is an empty list; give at least one prompt", param="prompt")
    if isinstance(prompt[0], int):
        return [prompt]
    return list(prompt)


async def _encode(front: Front, prompt: str | list[int], suffix: str | None) -> list[int]:
    if not suffix:
        return await front.encode(prompt)
    if not isinstance(prompt, str):
        raise APIError(400, "suffix goes with a prompt of text, not of token ids", param="suffix")
    return await front.encode(infill_prompt(front.tokenizer, prompt, suffix))


def _echo(front: Front, prompt: str | list[int], token_ids: list[int]) -> str:
    if isinstance(prompt, str):
        return prompt
    return "" if front.texts is None else front.texts.decode(token_ids)
