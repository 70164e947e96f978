"""The engine in this process: one base owned by one thread, which answers many requests together."""

import asyncio
import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch

from finetune.contracts.adapter import Quantization, ReferenceProbe
from finetune.contracts.adapter_files import check_base, read_adapter
from finetune.contracts.errors import AdapterError, PlatformError
from finetune.model.base_copy import BaseCopies
from finetune.model.loading import LoadedBase, load_base
from finetune.model.probe import continuation_log_probs
from finetune.model.quiet import quiet_libraries
from serving.aside import aside
from serving.engines.answer import AnswerWriter
from serving.engines.answer_form import AnswerForm, AnswerForms
from serving.engines.base import EngineDescription, GenerationRequest, Occupancy, ProbeReading
from serving.engines.batch import PromptReader
from serving.engines.cache import check_layers
from serving.engines.prompts import RenderedPrompt, render
from serving.engines.room import answer_room
from serving.engines.saved import HINT, read_linear_factors
from serving.engines.scheduler import QueuedRequest, Scheduler
from serving.engines.slots import AdapterSlots, LinearFactors
from serving.engines.stream import StreamedAnswer
from serving.engines.thread import ModelThread
from serving.errors import EngineError
from serving.settings import ServerSettings

ResultT = TypeVar("ResultT")
# Those that an export writes are far shorter
MAX_PROBE_TOKENS = 1024
# How long all answers wait for a piece of a probe's pass
PROBE_PIECE_SECONDS = 0.04
# Exports choose among a handful of probes, so the base is seldom asked twice
MAX_BASE_READINGS = 16


class TransformersEngine:
    """One base and its adapters. Requests of any adapters take their steps together, each with its own."""

    def __init__(self, base: LoadedBase, settings: ServerSettings) -> None:
        self._base = base
        self._settings = settings
        # The tokenizer keeps state while it encodes, which a long prompt makes it do for long: no answer waits for it
        self._tokenizing = threading.Lock()
        self._decoder = copy.deepcopy(base.tokenizer)
        self._num_tokens = min(len(base.tokenizer), base.model.config.get_text_config().vocab_size)
        self.description = describe(base, settings)
        self._forms = AnswerForms(base.tokenizer, base.family)
        self._warm_up()
        self._slots = AdapterSlots(base.model)
        self._scheduler = Scheduler(
            base.model, self._slots, device=base.device, num_tokens=self._num_tokens, settings=settings
        )
        self._base_readings: dict[tuple[Sequence[int], Sequence[int]], tuple[float, ...]] = {}
        self._thread = ModelThread(self._scheduler)

    @property
    def ready(self) -> bool:
        """False once the engine was closed, or the device failed in a way that only a restart cures."""
        return self._scheduler.healthy and self._thread.alive

    @property
    def occupancy(self) -> Occupancy:
        """See Engine."""
        scheduler = self._scheduler
        return Occupancy(scheduler.num_waiting, scheduler.num_running, adapter_bytes=self._slots.num_bytes)

    async def generate(self, request: GenerationRequest) -> StreamedAnswer:
        """Accept a request; see Engine."""
        self._scheduler.check_room()
        form, prompt = await asyncio.to_thread(self._prepare, request)
        limit = answer_room(
            len(prompt.token_ids),
            request.sampling.max_tokens,
            context=self.description.max_context_tokens,
            most=self._settings.max_tokens,
        )
        queued = self._queued(request, prompt, form, max_new_tokens=limit)
        self._scheduler.submit(queued)
        try:
            self._thread.wake()
        except EngineError:
            self._scheduler.withdraw(queued)
            raise
        return queued.answer

    async def attach(self, slot: str, folder: Path, *, probe: ReferenceProbe) -> ProbeReading:
        """Read and check an adapter aside, then load and measure it, each between two other steps; see Engine."""
        self._check_probe(probe)
        factors = await aside(self._read, folder)
        try:
            await self._thread.call(lambda: self._in_memory(lambda: self._slots.load(slot, factors)))
            began = time.monotonic()
            before = await self._thread.call(lambda: self._in_memory(lambda: self._measure_base(probe)))
            after = await self._thread.call(lambda: self._in_memory(lambda: self._measure(slot, probe)))
        except asyncio.CancelledError:
            # nobody knows that it was loaded
            self._thread.post(lambda: self._discard(slot))
            raise
        except PlatformError:
            with suppress(EngineError):
                await self._thread.call(lambda: self._discard(slot))
            raise
        return ProbeReading(before, after, seconds=time.monotonic() - began)

    async def detach(self, slot: str) -> None:
        """Take an adapter off between two steps; see Engine."""
        await self._thread.call(lambda: self._scheduler.release(slot))

    def close(self) -> None:
        """End the threads; see Engine."""
        self._thread.close()
        self._forms.close()

    def _prepare(self, request: GenerationRequest) -> tuple[AnswerForm, RenderedPrompt]:
        form = self._forms.find(request)
        with self._tokenizing:
            room = self.description.max_context_tokens - (request.sampling.max_tokens or 1)
            return form, render(request.prompt, self._base.tokenizer, self._base.family, max_tokens=room)

    def _queued(
        self, request: GenerationRequest, prompt: RenderedPrompt, form: AnswerForm, *, max_new_tokens: int
    ) -> QueuedRequest:
        writer = AnswerWriter(
            request.sampling,
            stop_ids=prompt.stop_ids,
            max_new_tokens=max_new_tokens,
            decode=self._text,
            device=self._base.device,
            constraint=form.constraint,
            reader=form.reader,
        )
        num_prompt_tokens = len(prompt.token_ids)
        answer = StreamedAnswer(
            num_prompt_tokens=num_prompt_tokens,
            withdraw=lambda: self._scheduler.withdraw(queued),
            truncated=prompt.truncated,
        )
        queued = QueuedRequest(
            answer, writer, prompt.token_ids, slot=request.slot, max_tokens=num_prompt_tokens + max_new_tokens
        )
        return queued

    def _text(self, token_ids: Sequence[int]) -> str:
        return self._decoder.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _check_probe(self, probe: ReferenceProbe) -> None:
        ids = [*probe.token_ids, *probe.continuation_ids]
        if not probe.token_ids or not probe.continuation_ids or not all(0 <= one < self._num_tokens for one in ids):
            raise AdapterError("The adapter's reference probe does not fit the tokenizer.", HINT)
        if len(ids) > MAX_PROBE_TOKENS:
            raise AdapterError(f"The adapter's reference probe has more than {MAX_PROBE_TOKENS} tokens.", HINT)

    def _read(self, folder: Path) -> Mapping[str, LinearFactors]:
        base, manifest = self._base, read_adapter(folder)
        check_base(manifest, base.identity, chat_template=base.chat_template_digest, tokenizer=base.tokenizer_digest)
        return read_linear_factors(folder, manifest, self._slots)

    def _in_memory(self, work: Callable[[], ResultT]) -> ResultT:
        """The result of work on the model's thread. Raises EngineError when the device has no memory for it."""
        try:
            return work()
        except torch.OutOfMemoryError:
            # prompts that are kept for later make way
            self._scheduler.make_room()
        # not inside the handler, where the error still holds what work computed
        try:
            return work()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise EngineError("The device has no memory for the adapter.", "Unload another one first.") from error

    def _discard(self, slot: str) -> None:
        if slot in self._slots:
            self._slots.free(slot)

    def _measure_base(self, probe: ReferenceProbe) -> tuple[float, ...]:
        """What the base answers, which never changes."""
        key = probe.token_ids, probe.continuation_ids
        if key not in self._base_readings:
            if len(self._base_readings) == MAX_BASE_READINGS:
                del self._base_readings[next(iter(self._base_readings))]
            self._base_readings[key] = self._measure(None, probe)
        return self._base_readings[key]

    def _measure(self, slot: str | None, probe: ReferenceProbe) -> tuple[float, ...]:
        """What the adapter answers; answers that are begun take their steps in the middle of its pass."""
        # None while others are at the model
        resumed: float | None = time.monotonic()

        def let_others_go() -> None:
            nonlocal resumed
            if resumed is None or time.monotonic() - resumed < PROBE_PIECE_SECONDS:
                return
            resumed = None
            if self._thread.go_on():
                self._slots.select([slot])
            resumed = time.monotonic()

        self._slots.select([slot])
        with self._slots.before_each_map(let_others_go):
            return continuation_log_probs(self._base.model, probe.token_ids, probe.continuation_ids)

    @torch.inference_mode()
    def _warm_up(self) -> None:
        """Two steps before the first request: libraries say once what they miss, and compile what they need."""
        with quiet_libraries():
            reader = PromptReader(self._base.model, [0, 0, 0], device=self._base.device)
            reader.read(2)
            reader.read(1)
        check_layers(reader.cache)


def load_engine(
    base: Path,
    settings: ServerSettings,
    *,
    quantization: Quantization,
    embedding_on_host: bool = False,
    copies: Path | None = None,
) -> TransformersEngine:
    """Load the base in a folder and start its thread. Raises BaseModelError or MachineError as load_base does.

    copies is where 4-bit copies of large bases are kept, None: nowhere.
    """
    loaded = load_base(
        base,
        quantization=quantization,
        embedding_on_host=embedding_on_host,
        copies=BaseCopies(copies) if copies else None,
    )
    return TransformersEngine(loaded, settings)


def describe(base: LoadedBase, settings: ServerSettings) -> EngineDescription:
    """What the HTTP layer and the adapter checks may know of a loaded base."""
    own_limit = base.model.config.get_text_config().max_position_embeddings
    return EngineDescription(
        identity=base.identity,
        quantization=base.quantization,
        chat_template_digest=base.chat_template_digest,
        tokenizer_digest=base.tokenizer_digest,
        max_context_tokens=min(own_limit, settings.max_context_tokens),
        device=base.device,
    )
