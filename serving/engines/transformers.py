"""The engine in this process: one base, owned by one thread that switches adapters between requests."""

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from finetune.contracts.adapter import Quantization, ReferenceProbe
from finetune.contracts.errors import AdapterError
from finetune.model.base_copy import BaseCopies
from finetune.model.loading import LoadedBase, load_base
from finetune.model.lora import attach_saved, detach
from finetune.model.probe import continuation_log_probs
from finetune.model.quiet import quiet_libraries
from serving.engines.base import Delta, EngineDescription, GenerationRequest, ProbeReading, Sampling, TokenScore
from serving.engines.prompts import RenderedPrompt, render
from serving.engines.sampling import make_generator, pick, score
from serving.engines.stream import QueuedGeneration, StopTexts, StreamDecoder
from serving.engines.thread import ModelThread
from serving.errors import EngineError, RequestError
from serving.settings import ServerSettings

LOGGER = logging.getLogger("serving")
ADAPTER_HINT = "Load it over the base it was trained on, with the library versions of requirements.lock."


class TransformersEngine:
    """One base and its adapters; requests are answered one after the other, in the order of their coming."""

    def __init__(self, base: LoadedBase, settings: ServerSettings) -> None:
        self._base = base
        self._settings = settings
        self._model: Any = base.model
        self._slots: set[str] = set()
        # The tokenizer keeps state while it encodes: it is used by the event loop's threads and by the model's
        self._tokenizing = threading.Lock()
        self._num_tokens = min(len(base.tokenizer), base.model.config.get_text_config().vocab_size)
        self._healthy = True
        self.description = describe(base, settings)
        self._warm_up()
        self._thread = ModelThread(max_requests=settings.max_requests)

    @property
    def ready(self) -> bool:
        """False once the engine was closed, or the device failed in a way that only a restart cures."""
        return self._healthy and self._thread.alive

    async def generate(self, request: GenerationRequest) -> QueuedGeneration:
        """Accept a request; see Engine."""
        self._thread.check_room()
        prompt = await asyncio.to_thread(self._render, request)
        limit = self._max_new_tokens(len(prompt.token_ids), request.sampling.max_tokens)
        generation = QueuedGeneration(
            self._thread,
            lambda: self._produce(request, prompt, limit=limit),
            num_prompt_tokens=len(prompt.token_ids),
        )
        self._thread.submit(generation)
        return generation

    async def attach(self, slot: str, folder: Path, *, probe: ReferenceProbe) -> ProbeReading:
        """Load and measure an adapter between two requests; see Engine."""
        return await self._thread.call(lambda: self._attach(slot, folder, probe=probe))

    async def detach(self, slot: str) -> None:
        """Take an adapter off between two requests; see Engine."""
        await self._thread.call(lambda: self._detach(slot))

    def close(self) -> None:
        """End the thread; see Engine."""
        self._thread.close()

    def _render(self, request: GenerationRequest) -> RenderedPrompt:
        with self._tokenizing:
            return render(request.prompt, self._base.tokenizer, self._base.family)

    def _max_new_tokens(self, num_prompt_tokens: int, wanted: int | None) -> int:
        context = self.description.max_context_tokens
        room = context - num_prompt_tokens
        if room < max(1, wanted or 1):
            asked = f"{num_prompt_tokens} tokens of prompt" + (f" and {wanted} of answer" if wanted else "")
            raise RequestError(
                f"This server holds {context} tokens, the request has {asked}.",
                "Shorten the prompt or lower max_tokens.",
                code="context_length_exceeded",
            )
        return min(room, wanted or self._settings.max_tokens)

    def _produce(self, request: GenerationRequest, prompt: RenderedPrompt, *, limit: int) -> Iterator[Delta]:
        try:
            self._select(request.slot)
            yield from self._decode(self._choose(prompt, request.sampling), prompt, request.sampling, limit=limit)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise EngineError("The device ran out of memory.", "Shorten the prompt or lower max_tokens.") from error
        except torch.AcceleratorError as error:
            self._healthy = False
            raise EngineError("The device failed.", "Start the server again.") from error

    def _choose(self, prompt: RenderedPrompt, sampling: Sampling) -> Iterator[tuple[int, torch.Tensor]]:
        """Each next token with the logits (vocabulary) it was chosen from, without end."""
        generator = make_generator(sampling, self._base.device)
        ids, cache = prompt.token_ids, None
        while True:
            logits, cache = self._step(ids, cache)
            token = pick(logits, sampling, generator=generator)
            yield token, logits
            ids = [token]

    def _decode(
        self, chosen: Iterator[tuple[int, torch.Tensor]], prompt: RenderedPrompt, sampling: Sampling, *, limit: int
    ) -> Iterator[Delta]:
        decoder, stops = StreamDecoder(self._text), StopTexts(sampling.stop)
        for count, (token, logits) in enumerate(chosen, start=1):
            if token in prompt.stop_ids:
                rest, _ = stops.push(decoder.flush())
                yield Delta(rest + stops.flush(), num_tokens=1, finish_reason="stop")
                return
            text, met = stops.push(decoder.push(token))
            scores: tuple[TokenScore, ...] = ()
            if sampling.num_top_log_probs is not None:
                scores = (score(logits, token, num_top=sampling.num_top_log_probs, decode=self._text),)
            if not met and count == limit:
                rest, met = stops.push(decoder.flush())
                text += rest if met else rest + stops.flush()
                yield Delta(text, num_tokens=1, finish_reason="stop" if met else "length", scores=scores)
                return
            yield Delta(text, num_tokens=1, finish_reason="stop" if met else None, scores=scores)
            if met:
                return

    @torch.inference_mode()
    def _step(self, token_ids: Sequence[int], cache: Any) -> tuple[torch.Tensor, Any]:
        """Logits of the next token (vocabulary, float32) after token_ids, which follow what cache holds already."""
        inputs = torch.tensor([list(token_ids)], device=self._base.device)
        output = self._model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        # Bases pad their vocabulary beyond the tokenizer's: those rows mean nothing
        return output.logits[0, -1, : self._num_tokens].float(), output.past_key_values

    def _text(self, token_ids: Sequence[int]) -> str:
        with self._tokenizing:
            return self._base.tokenizer.decode(
                list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )

    def _select(self, slot: str | None) -> None:
        """Make slot the one adapter that acts; None silences all of them."""
        if not self._slots:
            assert slot is None, slot
            return
        if slot is None:
            self._model.base_model.disable_adapter_layers()
        else:
            self._model.base_model.enable_adapter_layers()
            self._model.set_adapter(slot, inference_mode=True)

    def _attach(self, slot: str, folder: Path, *, probe: ReferenceProbe) -> ProbeReading:
        ids = [*probe.token_ids, *probe.continuation_ids]
        if not probe.token_ids or not probe.continuation_ids or not all(0 <= one < self._num_tokens for one in ids):
            raise AdapterError("The adapter's reference probe does not fit the tokenizer.", ADAPTER_HINT)
        try:
            self._model = attach_saved(self._base, folder, slot, onto=self._model if self._slots else None)
            self._slots.add(slot)
            return self._measure(slot, probe)
        except Exception as error:
            self._clear(slot)
            if isinstance(error, AdapterError):
                raise
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
                raise EngineError("The device has no memory for the adapter.", "Unload another one first.") from error
            LOGGER.warning("the adapter in %s was refused: %r", folder, error)
            raise AdapterError(
                f"The adapter's tensors do not fit the base ({type(error).__name__}).", ADAPTER_HINT
            ) from error

    def _measure(self, slot: str, probe: ReferenceProbe) -> ProbeReading:
        self._select(None)
        before = continuation_log_probs(self._model, probe.token_ids, probe.continuation_ids)
        self._select(slot)
        return ProbeReading(before, continuation_log_probs(self._model, probe.token_ids, probe.continuation_ids))

    def _detach(self, slot: str) -> None:
        self._slots.discard(slot)
        self._leave(slot)
        self._model = detach(self._model, slot)

    def _clear(self, slot: str) -> None:
        """Take off what a load that failed half-way has left."""
        if slot in self._slots:
            self._detach(slot)
        elif self._slots:
            if slot in self._model.peft_config:
                self._leave(slot)
                self._model.delete_adapter(slot)
        else:
            strip_adapters(self._base.model)

    def _leave(self, slot: str) -> None:
        """Let another adapter be the active one: PEFT complains when the active one is deleted."""
        others = sorted(self._slots - {slot})
        if others:
            self._select(others[0])

    def _warm_up(self) -> None:
        """Two steps before the first request: libraries say once what they miss, and compile what they need."""
        with quiet_libraries():
            _, cache = self._step([0, 0], None)
            self._step([0], cache)


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


def strip_adapters(model: torch.nn.Module) -> None:
    """Put the plain linear modules back where a failed load had wrapped them."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
    model.__dict__.pop("peft_config", None)
