"""GET /v1/models: the names that the field `model` of a request may have."""

import time
from typing import Any

from fastapi import APIRouter

from serving.adapters.aliases import Alias
from serving.adapters.names import model_missing
from serving.adapters.view import View
from serving.api.auth import CallerOf
from serving.api.service import Service
from serving.api.wire import ModelCard


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()
    base = service.base_name
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

    def cards(view: View) -> list[ModelCard]:
        own = ModelCard(
            id=base, object="model", created=started, owned_by="finetune", parent=None, root=base, max_model_len=context
        )
        return [own, *(card(alias) for alias in view.served)]

    @router.get("/v1/models")
    async def list_models(caller: CallerOf) -> dict[str, Any]:
        return {"object": "list", "data": [one.body() for one in cards(service.view(caller))]}

    @router.get("/v1/models/{name}")
    async def get_model(name: str, caller: CallerOf) -> dict[str, Any]:
        for one in cards(service.view(caller)):
            if one.id == name:
                return one.body()
        raise model_missing(name)

    return router
