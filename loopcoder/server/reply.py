"""A prepared answer to the client: whole or as a stream, as the request asks."""

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from loopcoder.server.schemas import GenerationBody, StreamOptions
from loopcoder.server.wire import stream_answer, while_connected


class Reply(Protocol):
    """An answer that can be told in either way; asking for one begins the work."""

    async def whole(self) -> dict[str, Any]:
        """The whole answer."""
        ...

    def events(self, options: StreamOptions) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events."""
        ...


async def respond(request: Request, body: GenerationBody, reply: Reply, seconds: float) -> Response:
    """Tell `reply`; the work stops when the client goes away. A stream may take `seconds`."""
    if body.stream:
        events = reply.events(body.stream_options or StreamOptions())
        return await stream_answer(request, events, seconds)
    return JSONResponse(await while_connected(request, reply.whole()))
