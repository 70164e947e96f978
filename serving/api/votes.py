"""POST /v1/votes: what a reader of the playground chose while the columns had no names."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from finetune.contracts.errors import MachineError
from finetune.contracts.votes import Choice, Vote
from serving.access.scopes import Caller
from serving.api.auth import CallerOf
from serving.api.service import Service
from serving.errors import EngineError, RequestError

LOGGER = logging.getLogger("serving")
# Takes a vote, and returns when it is kept
Keep = Callable[[Vote], None]


def routes(service: Service, keep: Keep | None) -> APIRouter:
    """The routes of this module. keep None: votes are refused, with a word on why."""
    router = APIRouter()

    @router.post("/v1/votes")
    async def vote(body: Choice, caller: CallerOf) -> dict[str, Any]:
        if keep is None:
            raise RequestError(
                "This server has no home to keep votes in.", "Start it with `finetune serve start`.", status=409
            )
        _check(service, body, caller)
        at_ms = time.time_ns() // 1_000_000
        try:
            await asyncio.to_thread(keep, Vote(**dict(body), at_ms=at_ms))
        except MachineError as error:
            # it names a path of this machine
            LOGGER.error("a vote could not be kept: %s", error.message)
            raise EngineError("The vote could not be kept.", "The server's log says why.") from error
        return {"object": "vote", "at_ms": at_ms}

    return router


def _check(service: Service, body: Choice, caller: Caller) -> None:
    """Raise for a candidate that this server never answered as, so that nobody invents rows of results.

    One that the caller does not see does not exist for it.
    """
    view = service.view(caller)
    for candidate in body.candidates:
        if candidate.name == view.base_name:
            known = {view.lease(candidate.name).name}
        else:
            known = {move.adapter_id for move in view.history(candidate.name)}
        if candidate.version not in known:
            raise RequestError(
                f"{candidate.name!r} has never been {candidate.version!r} on this server.",
                "Ask again, then vote.",
                param="candidates",
                status=409,
            )
