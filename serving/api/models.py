"""GET /v1/models: the names that the field `model` of a request may have."""

import time
from typing import Any

from fastapi import APIRouter

from serving.adapters.registry import Alias
from serving.api.service import Service
from serving.api.wire import ModelCard
from serving.errors import RequestError


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()
    base = service.registry.base_name
    context = service.engine.description.max_context_tokens
    started = int(time.time())

    def card(alias: Alias) -> ModelCard:
        return ModelCard(
            id=alias.name,
            object="model",
            created=alias.current.loaded_at,
            owned_by="finetune",
            parent=base,
            root=alias.current.adapter_id,
            max_model_len=context,
        )

    def cards() -> list[ModelCard]:
        own = ModelCard(
            id=base, object="model", created=started, owned_by="finetune", parent=None, root=base, max_model_len=context
        )
        return [own, *(card(alias) for alias in service.registry.served)]

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [one.body() for one in cards()]}

    @router.get("/v1/models/{name}")
    async def get_model(name: str) -> dict[str, Any]:
        for one in cards():
            if one.id == name:
                return one.body()
        raise RequestError(
            f"The model {name!r} is not served here.",
            "GET /v1/models lists what is.",
            code="model_not_found",
            status=404,
        )

    return router
