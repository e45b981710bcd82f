"""Answers as bytes: whole, or streams of server-sent events. A client that leaves ends both."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from loopcoder.server.errors import APIError, as_api_error

T = TypeVar("T")
_log = logging.getLogger("loopcoder.server")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + _ENCODER.encode(value).encode() + b"\n\n"


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; a client that goes away cancels it."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise APIError(499, "the client has gone")  # nobody reads this
        return task.result()
    finally:
        await _cancel(task, gone)


async def stream_answer(
    request: Request, events: AsyncGenerator[bytes, None], seconds: float
) -> Response:
    """A stream, once its first event is there: what is wrong until then has a status of its own.

    It is cut off after `seconds`, which only a client that does not read can need.
    """
    first = await while_connected(request, _first(events))
    return EventStream(first, events, seconds)


async def _first(events: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(events)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class EventStream(Response):
    """A stream whose `events` are closed as soon as the client has gone or the stream is over.

    What goes wrong on the way is told as a last event of OpenAI's error shape: the status is out
    already.
    """

    media_type = "text/event-stream"

    def __init__(self, first: bytes, events: AsyncGenerator[bytes, None], seconds: float) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._events = events
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See class."""
        writing = asyncio.create_task(self._write(send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait(
                {writing, gone}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if writing.done():
                writing.result()
        finally:
            await _cancel(writing, gone)

    async def _write(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        try:
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for chunk in self._events:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Exception as error:
            told = as_api_error(error)
            if told.code == "internal":
                _log.exception("a stream failed")
            body = event(told.body()) + DONE
            await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            await self._events.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
