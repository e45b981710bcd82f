"""`POST /v1/chat/completions`."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from loopcoder.engine.structured import enforceable
from loopcoder.server.choice import Entry, Piece
from loopcoder.server.errors import APIError
from loopcoder.server.front import Front
from loopcoder.server.job import Job, Said
from loopcoder.server.logprobs import chat_logprobs, token_details
from loopcoder.server.params import check_most, check_schema, sampling_params, token_limit
from loopcoder.server.reply import respond
from loopcoder.server.schemas import ChatBody, ResponseFormat, StreamOptions
from loopcoder.server.settings import ServerSettings
from loopcoder.server.tools import ToolCall, ToolCallReader, ToolPlan, plan_tools
from loopcoder.types import StructuredOutputsParams


def routes(front: Front) -> APIRouter:
    """The route, bound to one model."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(request: Request, body: ChatBody) -> Response:
        """Answer a conversation (OpenAI's chat completions)."""
        front.check_model(body.model)
        reply = await _prepare(front, body)
        return await respond(request, body, reply, front.settings.request_timeout)

    return router


@dataclass(kw_only=True)
class _Message:
    """One choice's answer so far: content, and calls of tools where there are any to call."""

    reader: ToolCallReader | None
    content: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    finish_reason: str | None = None

    def push(self, piece: Piece) -> list[str | ToolCall]:
        """Add a piece; what of it can be told now."""
        parts: list[str | ToolCall] = [piece.text] if piece.text else []
        if self.reader is not None:
            parts = self.reader.push(piece.text)
            parts += self.reader.flush() if piece.finish_reason else []
        for part in parts:
            if isinstance(part, str):
                self.content += part
            else:
                self.calls.append(part)
        self.entries += piece.entries
        self.finish_reason = piece.finish_reason
        if self.finish_reason == "stop" and self.calls:
            self.finish_reason = "tool_calls"
        return parts


@dataclass(frozen=True, kw_only=True)
class _Reply:
    """A job and what its answer shows."""

    job: Job
    plan: ToolPlan
    top: int | None
    lens: int | None
    ids: bool

    async def whole(self) -> dict[str, Any]:
        """The whole answer."""
        messages = self._messages()
        async for batch in self.job.said():
            for number, piece in batch:
                messages[number].push(piece)
        choices = [self._choice(number, each) for number, each in enumerate(messages)]
        return {**self.job.envelope("chat.completion", choices), "usage": self.job.usage()}

    def events(self, options: StreamOptions) -> AsyncGenerator[bytes, None]:
        """The answer as a stream of server-sent events."""
        messages = self._messages()
        begun: set[int] = set()

        def choice(said: Said) -> dict[str, Any]:
            number, piece = said
            message = messages[number]
            delta = _delta(message.push(piece))
            message.entries.clear()
            if number not in begun:
                begun.add(number)
                delta = {"role": "assistant", "content": "", **delta}
            return {
                "index": number,
                "delta": delta,
                **self._details(piece.entries),
                "finish_reason": message.finish_reason,
            }

        return self.job.events("chat.completion.chunk", choice, options)

    def _messages(self) -> list[_Message]:
        return [_Message(reader=self.plan.reader()) for _ in self.job.choices]

    def _choice(self, number: int, said: _Message) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": said.content, "refusal": None}
        if said.calls:
            message["content"] = said.content or None
            message["tool_calls"] = [_call(call) for call in said.calls]
        return {
            "index": number,
            "message": message,
            **self._details(said.entries),
            "finish_reason": said.finish_reason,
        }

    def _details(self, entries: Sequence[Entry]) -> dict[str, Any]:
        texts = self.job.front.texts
        assert texts is not None  # there is no chat without a tokenizer
        shown = None if self.top is None else chat_logprobs(texts, entries, self.top)
        return {
            "logprobs": shown,
            **token_details(texts, entries, ids=self.ids, lens=self.lens),
        }


def _delta(parts: Sequence[str | ToolCall]) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    content = "".join(part for part in parts if isinstance(part, str))
    if content:
        delta["content"] = content
    calls = [part for part in parts if isinstance(part, ToolCall)]
    if calls:
        delta["tool_calls"] = [{"index": call.index, **_call(call)} for call in calls]
    return delta


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


async def _prepare(front: Front, body: ChatBody) -> _Reply:
    """Check everything before anything runs."""
    if body.top_logprobs is not None and not body.logprobs:
        raise APIError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    check_most("top_logprobs", body.top_logprobs, front.settings.max_logprobs)
    plan = _plan(front, body)
    top = (body.top_logprobs or 0) if body.logprobs else None
    token_ids = await front.chat_tokens(
        plan.messages([message.model_dump(exclude_none=True) for message in body.messages]),
        plan.template_tools,
        body.chat_template_kwargs,
    )
    asked = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    room = front.reader.max_model_len - len(token_ids)
    params = sampling_params(
        body,
        front.settings,
        max_tokens=max(1, token_limit("max_tokens", asked, room, front.settings)),
        logprobs=top,
        structured=plan.structured,
        shows_special=plan.shows_special,
    )
    ids = bool(body.return_token_ids)
    job = Job(
        front,
        await front.requests([token_ids], params),
        prefix="chatcmpl",
        detailed=ids or top is not None or body.loop_lens is not None,
        empty=asked == 0,
    )
    return _Reply(job=job, plan=plan, top=top, lens=body.loop_lens, ids=ids)


def _plan(front: Front, body: ChatBody) -> ToolPlan:
    tools = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
    check_most("the number of tools", len(tools), front.settings.max_tools)
    check_schema(tools, "tools", front.settings)
    choice = body.tool_choice
    return plan_tools(
        tools or None,
        choice if choice is None or isinstance(choice, str) else choice.model_dump(),
        body.parallel_tool_calls,
        template_knows_tools=front.knows_tools,
        special_tags=front.special_tags,
        answer=_answer(body.response_format, front.settings),
    )


def _answer(
    wanted: ResponseFormat | None, settings: ServerSettings
) -> StructuredOutputsParams | None:
    """What content is held to."""
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return StructuredOutputsParams(json_object=True)
    given = wanted.json_schema
    if given is None or given.schema_ is None:
        raise APIError(
            400, "response_format json_schema needs json_schema.schema", param="response_format"
        )
    check_schema(given.schema_, "response_format", settings)
    return StructuredOutputsParams(json=enforceable(given.schema_, strict=bool(given.strict)))
