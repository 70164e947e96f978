"""A server that is started while a job has its card: it says so on its port, until the card is free."""

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from finetune.contracts.card import CardJob
from finetune.terminal.output import note
from serving.access.access import Access
from serving.access.quotas import Quotas
from serving.api import errors
from serving.api.auth import Gate
from serving.api.limits import HostCheck
from serving.api.trail import Trail
from serving.card import POLL_SECONDS, CardHold, away_text
from serving.errors import AwayError
from serving.run import PreparedServer, serve_in_thread, server_of
from serving.settings import ServerSettings

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def wait_for_card(hold: CardHold, listener: socket.socket, settings: ServerSettings, *, access: Access) -> None:
    """Take the card as soon as no job wants it, and answer every request on listener with status 503 until then."""
    job = hold.take()
    if job is None:
        return
    note(f"Waiting for the card, which {job.does} (process {job.pid}) has. Ctrl-C stops.")
    # a copy of the socket: what listens on it here ends, and the port stays taken
    meanwhile = PreparedServer(server_of(waiting_app(job, access), settings), listener.dup(), hold.server.url, ())
    with serve_in_thread(meanwhile):
        while hold.take() is not None:
            time.sleep(POLL_SECONDS)


def waiting_app(job: CardJob, access: Access) -> FastAPI:
    """An application that can only say what it waits for, in the words of one whose engine is away."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with access.kept_up():
            yield

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    errors.install(app)

    @app.get("/livez")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/readyz")
    async def ready() -> JSONResponse:
        return JSONResponse({"status": "not ready", "reason": away_text(job)}, status_code=503)

    @app.api_route("/{path:path}", methods=METHODS)
    async def other(request: Request, path: str) -> None:
        raise AwayError(away_text(job))

    app.add_middleware(Gate, access=access, quotas=Quotas(access.tokens))
    app.add_middleware(HostCheck)
    app.add_middleware(Trail, audit=access.audit)
    return app
