"""GET /v1/adapters/{name}/files: what a served adapter is made of, for engines that load it themselves.

The files are those of the copy that was checked and loaded, so their digests are the ones of the manifest among them.
"""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, ADAPTER_SIGNATURE_NAME
from serving.adapters.versions import Version
from serving.api.auth import CallerOf
from serving.api.service import Service
from serving.errors import AdapterMissingError


def routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @router.get("/v1/adapters/{name}/files")
    async def list_files(name: str, caller: CallerOf) -> dict[str, Any]:
        version = service.view(caller).current(name)
        cards = [{"name": file, "bytes": (version.folder / file).stat().st_size} for file in _names(version)]
        return {"object": "list", "adapter_id": version.adapter_id, "data": cards}

    @router.get("/v1/adapters/{name}/files/{file}")
    async def send(name: str, file: str, caller: CallerOf) -> FileResponse:
        version = service.view(caller).current(name)
        if file not in _names(version):
            raise AdapterMissingError(
                f"{version.adapter_id} has no file {file!r}.", f"GET /v1/adapters/{name}/files lists them."
            )
        return _HeldFile(version, file)

    return router


def _names(version: Version) -> list[str]:
    """The manifest, the files that it names, and its signature where there is one."""
    signed = (version.folder / ADAPTER_SIGNATURE_NAME).is_file()
    apart = [ADAPTER_MANIFEST_NAME, *([ADAPTER_SIGNATURE_NAME] if signed else [])]
    return sorted({*apart, *(entry.name for entry in version.manifest.files)})


class _HeldFile(FileResponse):
    """A file of a version that stays until it is sent, whatever its name comes to mean."""

    def __init__(self, version: Version, file: str) -> None:
        self._lease = version.lease()
        headers = {"X-Adapter-Id": version.adapter_id, "X-Content-Type-Options": "nosniff"}
        super().__init__(version.folder / file, media_type="application/octet-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, and let go of the version even if the client left before the first byte."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._lease.release()
