"""Load, move, roll back and unload adapters while the server answers, and list them: vLLM's two routes, and our own."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from serving.adapters.registry import Alias, Waiting
from serving.adapters.versions import Version
from serving.api.service import Service
from serving.api.wire import (
    AdapterCard,
    AliasRequest,
    LoadAdapterRequest,
    RollbackRequest,
    UnloadAdapterRequest,
    VersionCard,
    WaitingCard,
)


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()
    registry = service.registry

    def card(alias: Alias) -> dict[str, Any]:
        return _alias_card(service, alias).body()

    @router.post("/v1/load_lora_adapter")
    async def load(body: LoadAdapterRequest) -> JSONResponse:
        return _loaded(service, await registry.load(body.lora_name, body.lora_path), "loaded")

    @router.post("/v1/unload_lora_adapter")
    async def unload(body: UnloadAdapterRequest) -> dict[str, Any]:
        await registry.unload(body.lora_name)
        return {"status": "unloaded", "name": body.lora_name}

    @router.post("/v1/adapters/alias")
    async def move(body: AliasRequest) -> JSONResponse:
        return _loaded(service, await registry.load(body.alias, body.adapter, move=True), "served")

    @router.post("/v1/adapters/rollback")
    async def roll_back(body: RollbackRequest) -> dict[str, Any]:
        alias = await registry.rollback(body.alias)
        return {"status": "served", "adapter": card(alias)}

    @router.get("/v1/adapters")
    async def list_adapters() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [card(alias) for alias in registry.served],
            "waiting": [_waiting_card(service, one).body() for one in registry.waiting],
            "versions": [_version_card(version).body() for version in registry.versions],
            "available": registry.available(),
        }

    @router.get("/v1/adapters/{name}/history")
    async def history(name: str) -> dict[str, Any]:
        moves = registry.history(name)
        return {"object": "list", "data": [{"adapter_id": move.adapter_id, "at": move.at} for move in moves]}

    return router


def _alias_card(service: Service, alias: Alias) -> AdapterCard:
    adapter, manifest = alias.current, alias.current.manifest
    return AdapterCard(
        name=alias.name,
        adapter_id=adapter.adapter_id,
        previous=alias.previous.adapter_id if alias.previous else None,
        base=service.registry.base_name,
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
    return JSONResponse({"status": done, "adapter": _alias_card(service, found).body()})


def _waiting_card(service: Service, waiting: Waiting) -> WaitingCard:
    return WaitingCard(
        name=waiting.name,
        adapter_id=waiting.adapter_id,
        previous=waiting.previous.current.adapter_id if waiting.previous else None,
        base=service.registry.base_name,
    )


def _version_card(version: Version) -> VersionCard:
    return VersionCard(
        adapter_id=version.adapter_id,
        state=version.state.value,
        loaded_at=version.loaded_at,
        num_active=version.num_active,
    )
