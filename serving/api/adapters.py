"""Load, move, roll back and unload adapters while the server answers, and list them: vLLM's two routes, and our own.

A caller changes and sees its own names and adapters alone. Whether one that it does not see exists is not looked at.
"""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serving.access.scopes import Scope
from serving.adapters.aliases import Alias, Waiting
from serving.adapters.versions import Version
from serving.api.auth import CallerOf
from serving.api.service import Service
from serving.api.wire import (
    AdapterCard,
    AliasRequest,
    LoadAdapterRequest,
    RollbackRequest,
    SplitRequest,
    UnloadAdapterRequest,
    VersionCard,
    WaitingCard,
)


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @router.post("/v1/load_lora_adapter")
    async def load(body: LoadAdapterRequest, caller: CallerOf) -> JSONResponse:
        found = await service.view(caller).load(body.lora_name, body.lora_path)
        return _loaded(service, found, "loaded")

    @router.post("/v1/unload_lora_adapter")
    async def unload(body: UnloadAdapterRequest, caller: CallerOf) -> dict[str, Any]:
        await service.view(caller).unload(body.lora_name)
        return {"status": "unloaded", "name": body.lora_name}

    @router.post("/v1/adapters/alias")
    async def move(body: AliasRequest, caller: CallerOf) -> JSONResponse:
        view = service.view(caller)
        in_use = any(alias.name == body.alias for alias in view.served)
        what = f"Moving the name {body.alias!r}" if in_use else "Serving a new name"
        caller.need(Scope.PROMOTE if in_use else Scope.LOAD, what)
        # the name may come into use meanwhile
        found = await view.load(body.alias, body.adapter, move=caller.may(Scope.PROMOTE))
        return _loaded(service, found, "served")

    @router.post("/v1/adapters/rollback")
    async def roll_back(body: RollbackRequest, caller: CallerOf) -> dict[str, Any]:
        return _served(service, await service.view(caller).rollback(body.alias), "served")

    @router.post("/v1/adapters/split")
    async def split(body: SplitRequest, caller: CallerOf) -> dict[str, Any]:
        view = service.view(caller)
        if body.to is None:
            return _served(service, await view.end_trial(body.alias), "served")
        return _served(service, await view.try_out(body.alias, body.to, share=body.weight), "tried")

    @router.get("/v1/adapters")
    async def list_adapters(caller: CallerOf) -> dict[str, Any]:
        view = service.view(caller)
        return {
            "object": "list",
            "data": [_alias_card(service, alias).body() for alias in view.served],
            "waiting": [_waiting_card(service, one).body() for one in view.waiting],
            "versions": [_version_card(version).body() for version in view.versions],
            "available": await view.available(),
        }

    @router.get("/v1/adapters/{name}/history")
    async def history(name: str, caller: CallerOf) -> dict[str, Any]:
        moves = service.view(caller).history(name)
        return {"object": "list", "data": [{"adapter_id": move.adapter_id, "at": move.at} for move in moves]}

    return router


def _alias_card(service: Service, alias: Alias) -> AdapterCard:
    adapter, manifest = alias.current, alias.current.manifest
    return AdapterCard(
        name=alias.name,
        adapter_id=adapter.adapter_id,
        previous=alias.previous.adapter_id if alias.previous else None,
        tried=alias.trial.version.adapter_id if alias.trial else None,
        share=alias.trial.share if alias.trial else None,
        base=service.base_name,
        rank=manifest.rank,
        targets=list(manifest.targets),
        trained_on=manifest.quantization.value,
        served_on=service.engine.description.quantization.value,
        weights_digest=manifest.digests.weights,
        loaded_at=adapter.loaded_at,
        num_active=adapter.num_active,
    )


def _loaded(service: Service, found: Alias | Waiting, done: str) -> JSONResponse:
    """done is what is said of an adapter that is served; status 202 of one that waits."""
    if isinstance(found, Waiting):
        document = {"status": "waiting", "adapter": _waiting_card(service, found).body()}
        return JSONResponse(document, status_code=HTTPStatus.ACCEPTED)
    return JSONResponse(_served(service, found, done))


def _served(service: Service, alias: Alias, done: str) -> dict[str, Any]:
    return {"status": done, "adapter": _alias_card(service, alias).body()}


def _waiting_card(service: Service, waiting: Waiting) -> WaitingCard:
    return WaitingCard(
        name=waiting.name,
        adapter_id=waiting.adapter_id,
        previous=waiting.previous.current.adapter_id if waiting.previous else None,
        base=service.base_name,
    )


def _version_card(version: Version) -> VersionCard:
    return VersionCard(
        adapter_id=version.adapter_id,
        state=version.state.value,
        loaded_at=version.loaded_at,
        num_active=version.num_active,
    )
