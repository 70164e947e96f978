"""Who may reach which route: nobody reaches one that is not in the table below, and only the open ones without a key.

The table is asked before the router, so it covers whatever is mounted behind it, and before a body is read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finetune.contracts.errors import PlatformError
from serving.access.access import Access
from serving.access.quotas import Quotas
from serving.access.record import RequestRecord
from serving.access.scopes import NO_LIMITS, Caller, scope_error
from serving.access.scopes import Scope as KeyScope
from serving.api.errors import error_response, route_error
from serving.api.playground import PUBLIC_PATHS
from serving.api.trail import record_of
from serving.errors import KeyRefusedError

ANY = frozenset(KeyScope)
INFER = frozenset({KeyScope.INFER})
LOAD = frozenset({KeyScope.LOAD})
PROMOTE = frozenset({KeyScope.PROMOTE})
ADMIN = frozenset({KeyScope.ADMIN})

# What checks whether this process lives has no key. The playground's files are the same in every installation, hold
# nothing of this one, and a browser asks for them before anybody can sign in
OPEN = frozenset({("GET", "/livez"), *(("GET", path) for path in PUBLIC_PATHS)})
# One of the scopes is enough; ADMIN always is. What is neither here nor open does not exist
SCOPES: Mapping[tuple[str, str], frozenset[KeyScope]] = {
    ("GET", "/readyz"): ANY,
    # it names all adapters
    ("GET", "/metrics"): ADMIN,
    ("GET", "/v1/models"): ANY,
    ("GET", "/v1/models/{name}"): ANY,
    ("POST", "/v1/chat/completions"): INFER,
    ("POST", "/v1/completions"): INFER,
    ("POST", "/infill"): INFER,
    ("POST", "/v1/votes"): INFER,
    ("GET", "/v1/adapters"): ANY,
    ("GET", "/v1/adapters/{name}/history"): ANY,
    # who takes the weights can serve them
    ("GET", "/v1/adapters/{name}/files"): LOAD,
    ("GET", "/v1/adapters/{name}/files/{file}"): LOAD,
    ("POST", "/v1/load_lora_adapter"): LOAD,
    ("POST", "/v1/unload_lora_adapter"): PROMOTE,
    # the route itself knows whether the name is in use
    ("POST", "/v1/adapters/alias"): LOAD | PROMOTE,
    ("POST", "/v1/adapters/rollback"): PROMOTE,
    ("POST", "/v1/adapters/split"): PROMOTE,
}


@dataclass(frozen=True, slots=True)
class _Rule:
    method: str
    template: str
    path: re.Pattern[str]
    is_open: bool
    scopes: frozenset[KeyScope]

    @property
    def is_change(self) -> bool:
        """Whether it changes what the server answers with."""
        return self.method == "POST" and bool(self.scopes & (LOAD | PROMOTE))


class Gate:
    """Let through who has a key with the scope of the route, and tell the route who it is; see caller_of."""

    def __init__(self, app: ASGIApp, *, access: Access, quotas: Quotas) -> None:
        self._app = app
        self._access = access
        self._quotas = quotas
        self._rules = [
            _Rule(method, path, compile_path(path)[0], (method, path) in OPEN, SCOPES.get((method, path), frozenset()))
            for method, path in (*OPEN, *SCOPES)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the start and stop of the server, and what is allowed."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        rules = [rule for rule in self._rules if rule.path.match(scope["path"])]
        rule = next((rule for rule in rules if rule.method == scope["method"]), None)
        record = record_of(scope)
        if rule and rule.is_open:
            record.is_open = True
            await self._app(scope, receive, send)
            return
        if rule:
            record.route, record.is_listing = f"{rule.method} {rule.template}", rule.scopes == ANY
        try:
            caller = await self._let_in(scope, rule, record)
        except PlatformError as error:
            _note_refusal(record, error)
            known = scope["state"].get("caller")
            await _refusal(error)(scope, receive, self._with_limits(known, send) if known else send)
            return
        other = (
            None
            if rule
            else route_error(scope["method"], scope["path"], allowed=sorted({rule.method for rule in rules}))
        )
        try:
            await (other or self._app)(scope, receive, self._with_limits(caller, send))
        finally:
            self._quotas.leave(caller)

    async def _let_in(self, scope: Scope, rule: _Rule | None, record: RequestRecord) -> Caller:
        """Who asks, once it may; its request is counted as running then, and a change is in the log."""
        caller = replace(await self._access.caller(_headers(scope, b"authorization")), record=record)
        scope["state"]["caller"] = caller
        record.caller, record.key_id = caller.name, caller.id
        if rule and not caller.may(*rule.scopes):
            raise scope_error(caller, f"{scope['method']} {scope['path']}", rule.scopes)
        self._quotas.enter(caller)
        try:
            if rule and self._access.audit:
                await self._access.audit.admit(record, is_change=rule.is_change)
        except BaseException:
            self._quotas.leave(caller)
            raise
        return caller

    def _with_limits(self, caller: Caller, send: Send) -> Send:
        """Sends what is left of the caller's limits along with the answer."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._quotas.headers(caller).items():
                    headers[name] = value
            await send(message)

        return told if caller.limits != NO_LIMITS else send


async def caller_of(request: Request) -> Caller:
    """Who asks, as the gate found; a route that nobody guards fails here."""
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(caller_of)]


def _note_refusal(record: RequestRecord, error: PlatformError) -> None:
    record.outcome, record.reason = "refused", str(getattr(error, "code", ""))
    if isinstance(error, KeyRefusedError):
        record.caller, record.key_id, record.reason = error.caller, error.key_id, error.reason


def _refusal(error: PlatformError) -> JSONResponse:
    answer = error_response(error)
    if isinstance(error, KeyRefusedError):
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
