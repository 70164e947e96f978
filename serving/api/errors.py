"""Every failure in OpenAI's shape: never a path of the server, never a traceback."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from finetune.contracts.errors import InputError, PlatformError
from serving.api.wire import ErrorBody
from serving.errors import AuditError, AwayError, BusyError, IssuerUnavailableError, QuotaError, RateError

LOGGER = logging.getLogger("serving")
TYPES = {
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large_error",
    429: "rate_limit_error",
}
GENERAL = "The server failed to answer; its log says why."


def install(app: FastAPI) -> None:
    """Register the handlers on app."""
    app.add_exception_handler(PlatformError, _platform_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)


def error_document(error: PlatformError) -> dict[str, Any]:
    """The body for an expected failure, also sent as the last event of a stream that breaks."""
    status = status_of(error)
    code = getattr(error, "code", "invalid_adapter" if isinstance(error, InputError) else "internal_error")
    return _document(str(error).strip(), status, param=getattr(error, "param", None), code=code)


def status_of(error: PlatformError) -> int:
    """The error's own status; else 400 for the client's data and 500 for everything else."""
    return getattr(error, "status", 400 if isinstance(error, InputError) else 500)


def error_response(error: PlatformError) -> JSONResponse:
    """The answer for an expected failure; a server that is busy or away says when to come back."""
    headers = {}
    if isinstance(error, AuditError | AwayError | BusyError | IssuerUnavailableError | QuotaError | RateError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return JSONResponse(error_document(error), status_code=status_of(error), headers=headers)


async def _platform_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PlatformError)
    return error_response(error)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # A union reports each of its branches; the first is as good as any
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    param = ".".join(place) or None
    if first["type"] == "extra_forbidden":
        return _answer(f"Unrecognized request argument supplied: {param}.", 400, param=param, code="unknown_parameter")
    if first["type"] == "json_invalid":
        return _answer("The body is not valid JSON.", 400, code="invalid_json")
    return _answer(f"{param or 'The body'}: {first['msg']}.", 400, param=param, code="invalid_value")


def route_error(method: str, path: str, *, allowed: Sequence[str]) -> JSONResponse:
    """The answer where there is no route; allowed are the methods that the path would answer to."""
    if not allowed:
        return _answer(f"There is nothing at {method} {path}.", HTTPStatus.NOT_FOUND)
    message = f"{path} does not answer to {method}."
    return _answer(message, HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(allowed)})


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _answer(str(error.detail), error.status_code, headers=dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    LOGGER.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(GENERAL, HTTPStatus.INTERNAL_SERVER_ERROR, code="internal_error")


def _answer(
    message: str,
    status: int,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    return JSONResponse(_document(message, status, param=param, code=code), status_code=status, headers=headers)


def _document(message: str, status: int, *, param: str | None, code: str | None) -> dict[str, Any]:
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": ErrorBody(message=message, type=kind, param=param, code=code).body()}
