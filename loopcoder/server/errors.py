"""Everything that goes wrong, as the JSON that OpenAI's clients know; no path, no traceback."""

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from loopcoder.errors import LoopCoderError
from loopcoder.server.engine_client import EngineError, QueueFullError, StoppedError


class APIError(HTTPException):
    """An answer other than 200: `param` names the field at fault, `code` is for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """`{"error": ...}` as OpenAI shapes it."""
        error = {
            "message": self.detail,
            "type": _type(self.status_code),
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}

    def response(self) -> JSONResponse:
        """As a whole response."""
        return JSONResponse(self.body(), status_code=self.status_code, headers=self.headers)


def _type(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


_NOT_SENT = frozenset({"body", "str", "int", "NamedTool"})


@singledispatch
def as_api_error(error: Exception) -> APIError:
    """What to tell the client of an exception; nothing of one that nobody expected."""
    return APIError(500, "the server failed at this request; its log says more", code="internal")


@as_api_error.register
def _(error: APIError) -> APIError:
    return error


@as_api_error.register
def _(error: HTTPException) -> APIError:
    return APIError(error.status_code, error.detail, headers=error.headers)


@as_api_error.register
def _(error: QueueFullError) -> APIError:
    retry = {"Retry-After": str(error.retry_after)}
    return APIError(429, f"the queue is full: {error}", code="queue_full", headers=retry)


@as_api_error.register
def _(error: StoppedError) -> APIError:
    return APIError(503, str(error), code="shutting_down")


@as_api_error.register
def _(error: EngineError) -> APIError:
    return APIError(503, str(error), code="engine_dead")


@as_api_error.register
def _(error: TimeoutError) -> APIError:
    return APIError(504, "the request took longer than this server allows", code="timeout")


@as_api_error.register
def _(error: LoopCoderError) -> APIError:
    return APIError(400, str(error))


@as_api_error.register
def _(error: RequestValidationError) -> APIError:
    found = error.errors()
    first = max(found, key=lambda each: len(each["loc"]))  # of a union, what came nearest
    param = _sent(first["loc"])
    if first["type"] == "extra_forbidden":
        message = f"Unrecognized request argument supplied: {param}"
        return APIError(400, message, param=param, code="unknown_parameter")
    if first["type"] == "json_invalid":
        return APIError(400, f"the body is not valid JSON: {first['ctx']['error']}")
    if first["type"] == "missing" and param:
        return APIError(
            400, f"Missing required parameter: {param}", param=param, code="missing_parameter"
        )
    same = [each["msg"] for each in found if _sent(each["loc"]) == param]
    said = "; or: ".join(dict.fromkeys(same))
    return APIError(400, f"{param or 'the body'}: {said}", param=param)


def _sent(where: tuple[int | str, ...]) -> str | None:
    """The path of a field; of a union pydantic also names the alternative that it tried."""
    return ".".join(str(p) for p in where if p not in _NOT_SENT and "[" not in str(p)) or None


def install(app: FastAPI) -> None:
    """Let `app` answer every exception in this shape."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()

    for kind in (
        QueueFullError,
        StoppedError,
        EngineError,
        LoopCoderError,
        TimeoutError,
        RequestValidationError,
        HTTPException,
        Exception,
    ):
        app.add_exception_handler(kind, handle)
