"""What is refused before a body is read: foreign host names, and bodies that are too large."""

from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.wire import ErrorBody


class HostCheck:
    """Refuse a Host header that is no name of this machine's loopback.

    A web page elsewhere can point a name of its own at 127.0.0.1 and let the reader's browser ask; its requests carry
    that name.
    """

    NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is not HTTP and what names this machine."""
        if scope["type"] == "http" and _host_name(_header(scope, b"host")) not in self.NAMES:
            body = ErrorBody(
                message="This server answers to localhost only.",
                type="invalid_request_error",
                param=None,
                code="host_not_allowed",
            )
            await JSONResponse({"error": body.body()}, status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuse a body of more than max_bytes, by its announced length or, without one, while it is read."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on requests whose body is counted as it comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = _header(scope, b"content-length")
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes or (announced.isdigit() and int(announced) > self._max_bytes):
                raise HTTPException(413, f"A request may have {self._max_bytes} bytes.")
            return message

        await self._app(scope, counted, send)


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
