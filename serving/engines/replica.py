"""One vLLM server over HTTP: what it holds, how it is told to hold more, and what it answers."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from finetune.contracts.adapter import ReferenceProbe
from finetune.contracts.errors import MachineError
from serving.engines.base import ProbeReading
from serving.engines.replica_access import ReplicaAccess, permit_host
from serving.engines.vllm_wire import UpstreamFailure, UpstreamStep, read_event, read_scores, scoring_body
from serving.errors import AdapterConflictError, EngineError, RequestError

LOGGER = logging.getLogger("serving")
HEALTH_SECONDS = 10.0
# An adapter of several GB over a slow disk
LOAD_SECONDS = 300.0
SCORE_SECONDS = 120.0
# Between two events of a stream, the wait in the server's queue included
SILENCE_SECONDS = 300.0
CAPACITY = "The server's log says why: it may need a higher --max-lora-rank, or see other files than this machine."


class ReplicaGone(EngineError):
    """A vLLM server cannot be reached, or answers as one that lost what it held."""

    def __init__(self, address: str, reason: object) -> None:
        # clients are not told where it is
        super().__init__("A vLLM server failed.", "Ask again: another one takes the request if there is one.")
        self.detail = f"{address}: {reason or type(reason).__name__}"


class Replica:
    """A server at address. resident are the names of adapters that it lists, retired those to be taken off it.

    in_service says whether new requests may go to it; the fleet sets it. changing is held while what it holds changes.
    """

    def __init__(self, address: str, access: ReplicaAccess) -> None:
        self.address = address.rstrip("/")
        self.in_service = False
        self.resident: set[str] = set()
        self.retired: set[str] = set()
        self.changing = asyncio.Lock()
        self.num_active = 0
        self.base_name = ""
        self.max_model_len = 0
        self._client = access.client(address)

    async def refresh(self) -> None:
        """Ask whether it is well and what it holds. Raises ReplicaGone."""
        with self._reaching():
            await asyncio.to_thread(permit_host, self.address)
            await self._get("/health")
            cards = (await self._get("/v1/models")).json()["data"]
            base = next(card for card in cards if card["parent"] is None)
            self.base_name, self.max_model_len = str(base["id"]), int(base["max_model_len"])
            self.resident = {str(card["id"]) for card in cards if card["parent"] is not None}

    async def load(self, name: str, folder: str) -> None:
        """Let it hold the adapter in folder, a path that it sees too, under a name that it has never given another.

        Raises AdapterConflictError when it refuses, whatever status that has there, and ReplicaGone.
        """
        if name in self.resident:
            return
        with self._reaching():
            body = {"lora_name": name, "lora_path": folder, "load_inplace": False}
            answer = await self._client.post("/v1/load_lora_adapter", json=body, timeout=LOAD_SECONDS)
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                self._check(answer)
        if answer.status_code != httpx.codes.OK:
            # it may hold it already, from before this process
            await self.refresh()
            if name not in self.resident:
                LOGGER.warning("%s refused the adapter %s: %s", self.address, name, answer.text[:500])
                raise AdapterConflictError(
                    f"A vLLM server does not take the adapter (status {answer.status_code}).", CAPACITY
                )
        self.resident.add(name)

    async def unload(self, name: str) -> None:
        """Let it forget the adapter; nothing happens when it has none of that name. Raises ReplicaGone."""
        with self._reaching():
            answer = await self._client.post(
                "/v1/unload_lora_adapter", json={"lora_name": name}, timeout=HEALTH_SECONDS
            )
            if answer.status_code != httpx.codes.NOT_FOUND:
                self._check(answer)
        self.resident.discard(name)
        self.retired.discard(name)

    async def measure(self, name: str, probe: ReferenceProbe) -> ProbeReading:
        """What it answers to a reference probe without and with the adapter. Raises ReplicaGone."""
        return ProbeReading(await self._score(self.base_name, probe), await self._score(name, probe))

    async def stream(
        self, name: str | None, body: dict[str, Any], *, num_top: int | None
    ) -> AsyncGenerator[UpstreamStep, None]:
        """The steps of an answer by the adapter of that name, None: by the base. Leaving early ends it over there.

        Raises ReplicaGone when it cannot be reached, breaks off, or does not know the name; RequestError when it
        refuses the request.
        """
        whole = {**body, "model": name or self.base_name}
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=HEALTH_SECONDS)
        with self._reaching():
            async with self._client.stream("POST", "/v1/completions", json=whole, timeout=timeout) as answer:
                if answer.status_code == httpx.codes.BAD_REQUEST:
                    # its words may quote the prompt, which is in no log
                    raise RequestError("The vLLM server refuses this request.", "Its own log says why.")
                self._check(answer)
                async for line in answer.aiter_lines():
                    step = read_event(line, num_top=num_top)
                    if isinstance(step, UpstreamFailure):
                        raise ReplicaGone(self.address, step.message)
                    if step:
                        yield step

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _score(self, model: str, probe: ReferenceProbe) -> tuple[float, ...]:
        ids = [*probe.token_ids, *probe.continuation_ids]
        with self._reaching():
            body = {**scoring_body(ids), "model": model}
            answer = await self._client.post("/v1/completions", json=body, timeout=SCORE_SECONDS)
            self._check(answer)
            return read_scores(answer.json(), ids)[-len(probe.continuation_ids) :]

    async def _get(self, path: str) -> httpx.Response:
        try:
            answer = await self._client.get(path, timeout=HEALTH_SECONDS)
        except httpx.RemoteProtocolError:
            # one that was idle and is closed as it is asked on says nothing of a server that has much to do
            answer = await self._client.get(path, timeout=HEALTH_SECONDS)
        self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code != httpx.codes.OK:
            raise ReplicaGone(self.address, f"{answer.request.url.path} gave status {answer.status_code}")

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what goes wrong on the way, and answers of no known shape, into ReplicaGone."""
        try:
            yield
        except (httpx.HTTPError, httpx.StreamError, MachineError, OSError) as error:
            if isinstance(error, EngineError):
                raise
            raise ReplicaGone(self.address, error) from error
        except (json.JSONDecodeError, ValueError, KeyError, TypeError, StopIteration) as error:
            raise ReplicaGone(self.address, f"an answer of another shape: {error!r}") from error
