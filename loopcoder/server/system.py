"""Everything but generation: models, tokens, health, counters, the page."""

import time
from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from loopcoder import __version__
from loopcoder.records import resident_bytes
from loopcoder.server.errors import APIError
from loopcoder.server.front import Front
from loopcoder.server.schemas import DetokenizeBody, TokenizeBody

_PAGE = files("loopcoder.server") / "page"
# The page loads nothing from anywhere else, and nobody may frame it.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def routes(front: Front) -> APIRouter:
    """The routes, bound to one model."""
    router = APIRouter()

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model."""
        return {"object": "list", "data": [front.card()]}

    @router.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """The one model, by its name."""
        front.check_model(name)
        return front.card()

    @router.api_route("/health", methods=["GET", "HEAD"])
    async def health() -> dict[str, str]:
        """200 while the engine stands."""
        return {"status": "ok"}

    @router.get("/version")
    async def version() -> dict[str, str]:
        """The package's version."""
        return {"version": __version__}

    @router.get("/stats")
    async def stats() -> dict[str, Any]:
        """The engine's counters as it last told them, and this process's memory."""
        return {
            **front.client.stats,
            "outstanding": front.client.outstanding,
            "slots": front.client.slots,
            "front_rss_bytes": resident_bytes(),
            "uptime_seconds": round(time.time() - front.started, 3),
            "model": front.card(),
        }

    @router.get("/metrics")
    async def metrics() -> Response:
        """Prometheus."""
        return Response(generate_latest(front.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def token_routes(front: Front) -> APIRouter:
    """`/tokenize` and `/detokenize`, in the words of vLLM and of llama.cpp."""
    router = APIRouter()

    @router.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> dict[str, Any]:
        """Token ids of a text, or of messages in the chat template."""
        front.check_model(body.model)
        given = [x for x in (body.prompt, body.content, body.messages) if x is not None]
        if len(given) != 1:
            raise APIError(400, "give prompt, or content, or messages", param="prompt")
        if body.messages is not None:
            messages = [each.model_dump(exclude_none=True) for each in body.messages]
            token_ids = await front.chat_tokens(messages, None, None)
        else:
            token_ids = await front.plain_tokens(
                str(given[0]), special=body.add_special_tokens is not False
            )
        most = front.reader.max_model_len
        return {"tokens": token_ids, "count": len(token_ids), "max_model_len": most}

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeBody) -> dict[str, Any]:
        """The text of token ids."""
        front.check_model(body.model)
        outside = [i for i in body.tokens if i >= front.config.vocab_size]
        if outside:
            raise APIError(
                400,
                f"token id {outside[0]} is outside the vocabulary of {front.config.vocab_size}",
                param="tokens",
            )
        text = front.tokenizer.decode(body.tokens, skip_special_tokens=False)
        return {"prompt": text, "content": text}

    return router


def page_routes() -> APIRouter:
    """The page and its files, read from the package."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page() -> HTMLResponse:
        """The page."""
        return HTMLResponse(_PAGE.joinpath("index.html").read_text("utf-8"), headers=_PAGE_HEADERS)

    @router.get("/favicon.ico")
    async def icon() -> PlainTextResponse:
        """There is one in the page itself."""
        return PlainTextResponse("", status_code=204)

    return router


class PageFiles(StaticFiles):
    """The page's files, with its headers."""

    def __init__(self) -> None:
        super().__init__(directory=str(_PAGE))

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """See `StaticFiles`."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_PAGE_HEADERS)
        return response
