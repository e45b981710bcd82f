"""The application: gate, routes, errors."""

import asyncio
import logging

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopcoder import __version__
from loopcoder.server import chat, completions, errors, system
from loopcoder.server.front import Front
from loopcoder.server.gate import Gate
from loopcoder.server.metrics import Metrics

_log = logging.getLogger("loopcoder.server")


def create_app(front: Front) -> ASGIApp:
    """One model's HTTP interface (INTERFACE.md, Server)."""
    app = FastAPI(
        title="LoopCoder",
        version=__version__,
        description="OpenAI-compatible server for looped language models.",
        redirect_slashes=False,  # a client's wrong path is told as any other error
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
    )
    for router in (
        completions.routes(front),
        chat.routes(front),
        system.token_routes(front),
        system.routes(front),
        system.page_routes(),
    ):
        app.include_router(router)
    app.mount("/page", system.PageFiles())
    errors.install(app)
    app.add_middleware(Gate, settings=front.settings, stopping=lambda: front.stopping)
    return _Watched(app, front.metrics)


class _Watched:
    """Counts responses by route and status, and logs what nobody expected.

    That has been answered with 500 when it gets here; a connection need not end for it.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See class."""

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The template of the path, so that a scanner's inventions make no new series.
                route = getattr(scope.get("route"), "path", None) or "other"
                self.metrics.responses.labels(route, str(message["status"])).inc()
            await send(message)

        try:
            await self.app(scope, receive, counted if scope["type"] == "http" else send)
        except asyncio.CancelledError:  # the server's end, and somebody who had stopped reading
            _log.info("a stream that was not read was cut off")
        except Exception:
            _log.exception("a request failed")
