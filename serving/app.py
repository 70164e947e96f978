"""create_app: one engine and one adapters folder behind OpenAI's routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from serving.access.access import Access
from serving.access.quotas import Quotas
from serving.adapters.registry import AdapterRegistry
from serving.adapters.store import AdapterStore
from serving.adapters.trust_watch import TrustWatch
from serving.api import adapters, chat, completions, errors, files, health, infill, metrics, models, playground, votes
from serving.api.auth import Gate
from serving.api.limits import BodyLimit, HostCheck
from serving.api.measures import RequestCount, ServiceMeasures
from serving.api.service import Service
from serving.api.trail import Trail
from serving.api.trials import Trials
from serving.card import CardWatch
from serving.engines.base import Engine
from serving.settings import ServerSettings


def create_app(
    engine: Engine,
    store: AdapterStore,
    *,
    settings: ServerSettings,
    registry: AdapterRegistry | None = None,
    access: Access | None = None,
    keep_vote: votes.Keep | None = None,
    watch: CardWatch | None = None,
) -> FastAPI:
    """The application. It closes the engine when it stops.

    registry None begins with no adapter served; access None lets everybody in who reaches the port. keep_vote takes
    the votes of the playground; None refuses them. watch lets the engine leave its card to jobs while the application
    runs, None: it stays.
    """
    registry = registry or AdapterRegistry(
        engine, store, max_adapters=settings.max_adapters, drain_seconds=settings.drain_seconds
    )
    trials = Trials(settings.traffic_log, with_prompts=settings.traffic_prompts)
    access = access or Access()
    quotas = Quotas(access.tokens)
    service = Service(engine, registry, settings, ServiceMeasures(registry), trials, quotas)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = [asyncio.create_task(one.run()) for one in (watch, TrustWatch(registry)) if one]
        async with access.kept_up():
            yield
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        # It waits for the step that runs
        await asyncio.to_thread(engine.close)

    # The interactive pages load their scripts from the internet, and the library's telemetry would send what it sees
    # wherever an environment variable says
    app = FastAPI(
        title="finetune",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lifespan,
    )
    errors.install(app)
    for module in (chat, completions, infill, models, adapters, files, playground, health):
        app.include_router(module.routes(service))
    app.include_router(metrics.routes(service, access.audit))
    app.include_router(votes.routes(service, keep_vote))
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Gate, access=access, quotas=quotas)
    app.add_middleware(HostCheck)
    app.add_middleware(Trail, audit=access.audit)
    app.add_middleware(RequestCount, requests=service.measures.requests)
    return app
