"""Who may reach which route: nobody reaches one that is not in the table below, and only the open ones without a key.

The table is asked before the router, so it covers whatever is mounted behind it, and before a body is read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import JSONResponse
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from finetune.contracts.errors import PlatformError
from serving.access.keyring import Keyring
from serving.access.rates import Rates
from serving.access.scopes import Caller, scope_error
from serving.access.scopes import Scope as KeyScope
from serving.api.errors import error_response, route_error
from serving.api.playground import PUBLIC_PATHS
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
    path: re.Pattern[str]
    is_open: bool
    scopes: frozenset[KeyScope]


class Gate:
    """Let through who has a key with the scope of the route, and tell the route who it is; see caller_of."""

    def __init__(self, app: ASGIApp, *, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring
        self._rates = Rates()
        self._rules = [
            _Rule(method, compile_path(path)[0], (method, path) in OPEN, SCOPES.get((method, path), frozenset()))
            for method, path in (*OPEN, *SCOPES)
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on the start and stop of the server, and what is allowed."""
        if scope["type"] == "http":
            refusal = self._refusal(scope)
            await (refusal or self._app)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        rules = [rule for rule in self._rules if rule.path.match(scope["path"])]
        rule = next((rule for rule in rules if rule.method == scope["method"]), None)
        if rule and rule.is_open:
            return None
        try:
            caller = self._keyring.caller(_headers(scope, b"authorization"))
            if rule and not caller.may(*rule.scopes):
                raise scope_error(caller, f"{scope['method']} {scope['path']}", rule.scopes)
            self._rates.take(caller)
        except PlatformError as error:
            return _answer(error)
        scope.setdefault("state", {})["caller"] = caller
        if rule:
            return None
        return route_error(scope["method"], scope["path"], allowed=sorted({rule.method for rule in rules}))


async def caller_of(request: Request) -> Caller:
    """Who asks, as the gate found; a route that nobody guards fails here."""
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(caller_of)]


def _answer(error: PlatformError) -> JSONResponse:
    answer = error_response(error)
    if isinstance(error, KeyRefusedError):
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
