"""The engine over vLLM servers: they hold the base and run it, adapters, names, prompts and texts are ours."""

import asyncio
import copy
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.contracts.adapter import Quantization, ReferenceProbe
from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.errors import MachineError
from finetune.contracts.io import digest_file, digest_text
from finetune.families.base import Family
from finetune.families.registry import family_for
from finetune.model.identity import TOKENIZER_NAME, read_identity
from finetune.model.loading import load_tokenizer
from serving.engines.base import ChatPrompt, EngineDescription, GenerationRequest, Occupancy, ProbeReading
from serving.engines.fleet import Fleet, WantedAdapter
from serving.engines.prompts import RenderedPrompt, render
from serving.engines.replica import Replica
from serving.engines.replica_access import ReplicaAccess
from serving.engines.replica_files import ReplicaFiles, is_multimodal
from serving.engines.replica_loop import ReplicaLoop
from serving.engines.room import answer_room
from serving.engines.stream import StreamedAnswer
from serving.engines.vllm_answer import UpstreamRequest, UpstreamWriter, write_answer
from serving.engines.vllm_wire import completion_body
from serving.errors import BusyError, RequestError
from serving.settings import ServerSettings

RETRY_SECONDS = 2


class VllmEngine:
    """One base on some vLLM servers, and the adapters that they hold; see Engine."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        loop: ReplicaLoop,
        files: ReplicaFiles,
        tokenizer: Any,
        family: Family,
        description: EngineDescription,
        settings: ServerSettings,
    ) -> None:
        self.description = description
        self._fleet = fleet
        self._loop = loop
        self._files = files
        self._tokenizer = tokenizer
        self._family = family
        self._settings = settings
        # The tokenizer keeps state while it encodes; answers are decoded on the thread of the servers
        self._tokenizing = threading.Lock()
        self._decoder = copy.deepcopy(tokenizer)
        # what the servers call the adapter of a slot: by its content, since they outlive this process
        self._names: dict[str, str] = {}
        self._changing = asyncio.Lock()
        self._num_running = 0

    @property
    def ready(self) -> bool:
        """Whether a server can answer with every adapter."""
        return self._loop.alive and self._fleet.ready

    @property
    def occupancy(self) -> Occupancy:
        """See Engine. What waits in the servers counts as running, and memory is theirs."""
        return Occupancy(num_waiting=0, num_running=self._num_running, adapter_bytes=0)

    async def generate(self, request: GenerationRequest) -> StreamedAnswer:
        """Accept a request; see Engine. Raises RequestError for tools and schemas, which are not passed on to vLLM."""
        _check_form(request)
        most = self._settings.max_requests * len(self._fleet.replicas)
        if self._num_running >= most:
            raise BusyError(num_waiting=self._num_running, retry_after_seconds=RETRY_SECONDS)
        name = self._names[request.slot] if request.slot else None
        prompt = await asyncio.to_thread(self._render, request)
        limit = answer_room(
            len(prompt.token_ids),
            request.sampling.max_tokens,
            context=self.description.max_context_tokens,
            most=self._settings.max_tokens,
        )
        sampling = request.sampling
        body = completion_body(prompt.token_ids, sampling, stop_ids=prompt.stop_ids, max_new_tokens=limit)
        upstream = UpstreamRequest(name, body, sampling.num_top_log_probs)
        writer = UpstreamWriter(sampling, stop_ids=prompt.stop_ids, decode=self._text)

        def withdraw() -> None:
            running.cancel()

        answer = StreamedAnswer(num_prompt_tokens=len(prompt.token_ids), withdraw=withdraw, truncated=prompt.truncated)
        running = self._loop.start(self._write(upstream, writer, answer))
        return answer

    async def attach(self, slot: str, folder: Path, *, probe: ReferenceProbe) -> ProbeReading:
        """Let every server hold the adapter in folder and prove it on each; see Engine."""
        return await self._loop.call(self._attach(slot, folder, probe))

    async def detach(self, slot: str) -> None:
        """Take an adapter off every server, unless another slot has the same content; see Engine."""
        await self._loop.call(self._detach(slot))

    def close(self) -> None:
        """Cancel what runs and end the thread; the servers go on with what they hold; see Engine."""
        self._loop.close(self._fleet.stop())

    async def _attach(self, slot: str, folder: Path, probe: ReferenceProbe) -> ProbeReading:
        async with self._changing:
            copied = await asyncio.to_thread(lambda: self._files.write(folder, read_adapter(folder)))
            self._names[slot] = copied.name
            try:
                return await self._fleet.attach(WantedAdapter(copied.name, str(copied), probe))
            except BaseException:
                await asyncio.shield(self._forget(slot))
                raise

    async def _detach(self, slot: str) -> None:
        async with self._changing:
            await self._forget(slot)

    async def _forget(self, slot: str) -> None:
        name = self._names.pop(slot)
        if name in self._names.values():
            return
        # a server that could not be told may still read the copy
        if await self._fleet.detach(name):
            await asyncio.to_thread(self._files.remove, name)

    async def _write(self, request: UpstreamRequest, writer: UpstreamWriter, answer: StreamedAnswer) -> None:
        self._num_running += 1
        try:
            await write_answer(self._fleet, request, writer=writer, answer=answer)
        finally:
            self._num_running -= 1

    def _render(self, request: GenerationRequest) -> RenderedPrompt:
        with self._tokenizing:
            room = self.description.max_context_tokens - (request.sampling.max_tokens or 1)
            return render(request.prompt, self._tokenizer, self._family, max_tokens=room)

    def _text(self, token_ids: Sequence[int]) -> str:
        return self._decoder.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _check_form(request: GenerationRequest) -> None:
    tools = isinstance(request.prompt, ChatPrompt) and request.prompt.use is not None
    if tools or request.schema is not None:
        raise RequestError(
            "Tools and answers by a schema are not served over vLLM.",
            "Ask a server that runs the base itself.",
            param="tools" if tools else "response_format",
        )


def load_replicas(base: Path, settings: ServerSettings, *, addresses: Sequence[str], copies: Path) -> VllmEngine:
    """The engine over the vLLM servers at addresses, which were started with the base in that folder.

    copies is the folder where adapters are put for them, which belongs to this gateway; they must see it under the
    same path. Raises BaseModelError as load_base does, UsageError for an address that is none or not safe, MachineError
    when no server answers.
    """
    access = ReplicaAccess.from_environment()
    fleet = Fleet([Replica(address, access) for address in addresses])
    loop = ReplicaLoop()
    try:
        loop.start(fleet.start()).result()
        context = _context(fleet, settings)
        # after the servers: the digest of a large base takes a minute
        description, tokenizer, family = _describe(base, context)
        files = ReplicaFiles(copies, multimodal=is_multimodal(base))
        if all(replica.in_service for replica in fleet.replicas):
            files.remove_all_but({name for replica in fleet.replicas for name in replica.resident})
    except BaseException:
        loop.close(fleet.stop())
        raise
    return VllmEngine(
        fleet,
        loop=loop,
        files=files,
        tokenizer=tokenizer,
        family=family,
        description=description,
        settings=settings,
    )


def _describe(base: Path, max_context_tokens: int) -> tuple[EngineDescription, Any, Family]:
    """The base in a folder, its tokenizer and its family."""
    tokenizer = load_tokenizer(base)
    identity = read_identity(base)
    description = EngineDescription(
        identity=identity,
        quantization=Quantization.NONE,
        chat_template_digest=digest_text(tokenizer.chat_template or ""),
        tokenizer_digest=digest_file(base / TOKENIZER_NAME),
        max_context_tokens=max_context_tokens,
        device="vllm",
    )
    return description, tokenizer, family_for(identity.model_type).for_tokenizer(tokenizer)


def _context(fleet: Fleet, settings: ServerSettings) -> int:
    """What every server that answers can hold."""
    lengths = [replica.max_model_len for replica in fleet.replicas if replica.in_service]
    if not lengths:
        raise MachineError(
            f"None of the {len(fleet.replicas)} vLLM servers answers.",
            "Start them first, with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora; docs/vllm.md says how.",
        )
    return min(*lengths, settings.max_context_tokens)
