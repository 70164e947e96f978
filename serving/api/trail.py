"""What became of each request, for the log of who asked what; and a number for each, which its answer tells."""

import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access.audit import ERROR, SERVER_ERROR, AuditLog
from serving.access.record import RequestRecord


class Trail:
    """Give each request a record, and write it down when the request is over. audit None: there is no log."""

    def __init__(self, app: ASGIApp, *, audit: AuditLog | None) -> None:
        self._app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note the end of what is HTTP."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord(id=f"req_{uuid.uuid4().hex}", at_ms=time.time_ns() // 1_000_000)
        scope.setdefault("state", {})["record"] = record
        began = time.monotonic()
        status = SERVER_ERROR

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = record.id
            await send(message)

        try:
            await self._app(scope, receive, numbered)
        finally:
            if self._audit and not record.is_open:
                record.route = record.route or f"{scope['method']} {scope['path']}"
                # listings come by the thousand, and so may what a stranger tries
                is_spared = status >= ERROR or record.is_listing
                self._audit.note(record, status=status, seconds=time.monotonic() - began, is_spared=is_spared)


def record_of(scope: Scope) -> RequestRecord:
    """That of the request; one that nobody reads where no trail is kept."""
    found: RequestRecord = scope.setdefault("state", {}).setdefault("record", RequestRecord())
    return found
