"""One HTTP request's generation: its engine requests, their choices, and the count of tokens."""

import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, NamedTuple

from loopcoder import __version__
from loopcoder.engine.sequence import Request
from loopcoder.server.choice import Choice, Piece
from loopcoder.server.front import Front
from loopcoder.server.messages import End
from loopcoder.server.schemas import StreamOptions
from loopcoder.server.wire import DONE, event

_log = logging.getLogger("loopcoder.server")
FINGERPRINT = f"loopcoder-{__version__}"


class Said(NamedTuple):
    """A piece of choice `number`; choices of several prompts are counted through."""

    number: int
    piece: Piece


class Job:
    """Engine requests that answer one HTTP request.

    `detailed` keeps the tokens beside the text. With `empty` nothing was to be written: the token
    that the engine writes all the same is dropped. `ends` are, by prompt, what is known at its end.
    """

    def __init__(
        self,
        front: Front,
        requests: Sequence[Request],
        *,
        prefix: str,
        detailed: bool = False,
        empty: bool = False,
    ) -> None:
        self.front = front
        self.requests = requests
        self.id = f"{prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self._begun = time.monotonic()
        self.empty = empty
        self.ends: list[End | None] = [None] * len(requests)
        params = requests[0].params
        self.n = params.n
        self.choices = [
            Choice(front.texts, detailed=detailed, shows_special=not params.skip_special_tokens)
            for _ in range(params.n * len(requests))
        ]
        self._prompt = {request.request_id: place for place, request in enumerate(requests)}

    async def said(self) -> AsyncGenerator[list[Said], None]:
        """Pieces as they come, those of one moment together. Raises what `Front.tokens` raises."""
        stream = self.front.tokens(self.requests)
        try:
            async for tokens in stream:
                batch = []
                for token in tokens:
                    place = self._prompt[token.request_id]
                    number = place * self.n + token.number
                    self.ends[place] = token.end or self.ends[place]
                    piece = self.choices[number].push(token)
                    batch.append(Said(number, Piece("", [], "length") if self.empty else piece))
                yield batch
        finally:
            await stream.aclose()
            self._log()

    def _log(self) -> None:
        """One line a request; what was asked only where the operator wants it."""
        usage = self.usage()
        reasons = ",".join(choice.finish_reason or "abort" for choice in self.choices)
        _log.info(
            "%s: %d + %d tokens, %s, %.3f s",
            self.id,
            usage["prompt_tokens"],
            usage["completion_tokens"],
            reasons,
            time.monotonic() - self._begun,
        )
        texts = self.front.texts
        if self.front.settings.log_prompts and texts is not None:
            for request in self.requests:
                text = texts.decode(request.prompt_token_ids, skip_special_tokens=False)
                _log.info("%s: prompt %r", self.id, text)

    async def events(
        self, kind: str, choice: Callable[[Said], dict[str, Any]], options: StreamOptions
    ) -> AsyncGenerator[bytes, None]:
        """The pieces as server-sent events around what `choice` makes of each.

        With `include_usage` the counts come last, and the chunks before have none, or with vLLM's
        `continuous_usage_stats` those so far.
        """
        stream = self.said()
        try:
            async for batch in stream:
                counts = self._counts(options)
                chunks = [{**self.envelope(kind, [choice(said)]), **counts} for said in batch]
                yield b"".join(map(event, chunks))
        finally:
            await stream.aclose()
        if options.include_usage:
            yield event({**self.envelope(kind, []), "usage": self.usage()})
        yield DONE

    def _counts(self, options: StreamOptions) -> dict[str, Any]:
        if not options.include_usage:
            return {}
        return {"usage": self.usage() if options.continuous_usage_stats else None}

    def usage(self) -> dict[str, Any]:
        """Exact counts: end tokens are tokens that were written."""
        prompt = sum(len(request.prompt_token_ids) for request in self.requests)
        written = 0 if self.empty else sum(choice.tokens for choice in self.choices)
        cached = sum(end.cached_tokens for end in self.ends if end is not None)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """The object around choices."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.front.name,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }
