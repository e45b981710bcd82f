"""What every request passes before anything reads it: host, key, kind and size of the body."""

import asyncio
import hmac
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopcoder.server.errors import APIError
from loopcoder.server.settings import ServerSettings

OPEN = frozenset({"/", "/favicon.ico", "/health", "/version", "/metrics", "/openapi.json"})
_LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})


class Gate:
    """Refuses what must not come in: a plain ASGI layer, so that streams pass untouched.

    `stopping` says whether the server is about to end.
    """

    def __init__(
        self, app: ASGIApp, settings: ServerSettings, stopping: Callable[[], bool]
    ) -> None:
        self.app = app
        self.settings = settings
        self.stopping = stopping
        self._keys = [key.encode() for key in settings.api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See class."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(receive, self.settings)
        try:
            self._check(scope, headers)
            body.check(headers)
        except APIError as error:
            # Without reading the body the connection is of no use for another request.
            response = error.response()
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        await self.app(scope, body.receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        path = scope["path"]
        if self.settings.loopback and _host(headers.get("host", "")) not in _LOCAL:
            raise APIError(403, "this server answers to localhost only", code="wrong_host")
        if self.stopping() and path != "/metrics":
            raise APIError(503, "the server is shutting down", code="shutting_down")
        if self._keys and path not in OPEN and not path.startswith("/page/"):
            self._check_key(headers.get("authorization", ""))
        if scope["method"] == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                shown = kind[:60] or "missing"
                raise APIError(415, f"the content type is {shown}; send JSON as application/json")

    def _check_key(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        key = given.strip().encode("utf-8", "replace")
        # Every key is compared, each in constant time.
        matches = [hmac.compare_digest(key, known) for known in self._keys]
        if scheme.lower() != "bearer" or not any(matches):
            raise APIError(
                401,
                "Incorrect API key provided; send a key of this server as `Authorization: "
                "Bearer KEY`",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _host(header: str) -> str:
    """The host without its port."""
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0].lower()


class _Body:
    """The body's size and time are bounded, whether or not the client announced its length."""

    def __init__(self, receive: Receive, settings: ServerSettings) -> None:
        self._receive = receive
        self._settings = settings
        self._size = 0
        self._whole = False
        self._deadline: float | None = None

    def check(self, headers: Headers) -> None:
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and len(announced) < 19:
            self._check_size(int(announced))

    async def receive(self) -> Message:
        if self._whole:  # what comes now is the client's leaving, whenever that is
            return await self._receive()
        clock = asyncio.get_running_loop().time()
        self._deadline = self._deadline or clock + self._settings.body_timeout
        try:
            async with asyncio.timeout_at(self._deadline):
                message: dict[str, Any] = dict(await self._receive())
        except TimeoutError as error:
            raise APIError(408, "the body did not come in time") from error
        self._size += len(message.get("body", b""))
        self._check_size(self._size)
        self._whole = not message.get("more_body", False)
        return message

    def _check_size(self, size: int) -> None:
        most = self._settings.max_body_bytes
        if size > most:
            raise APIError(
                413, f"the body has more than {most} bytes; send less", code="body_too_large"
            )
