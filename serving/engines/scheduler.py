"""Which request takes a step when: they wait in the order of their coming, are read in, and join the batch."""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from finetune.contracts.errors import PlatformError
from serving.engines.answer import AnswerWriter
from serving.engines.batch import Batch, PromptReader
from serving.engines.cache import RowSize, row_size
from serving.engines.device_memory import cache_bytes, lacks_room
from serving.engines.kept import KeptPrompts
from serving.engines.slots import AdapterSlots
from serving.engines.stream import StreamedAnswer
from serving.errors import BusyError, EngineError
from serving.settings import ServerSettings

LOGGER = logging.getLogger("serving")
# Tokens of a prompt that are read before the others take their next step
PIECE_TOKENS = 512
# Share of the newest duration in the running mean that Retry-After is taken from
NEWEST_SHARE = 0.2
NO_MEMORY = EngineError("The device ran out of memory.", "Shorten the prompt or lower max_tokens.")
NO_ADAPTER = EngineError("The adapter was unloaded before the answer began.", "GET /v1/models lists what is served.")
FAILED = EngineError("The engine failed on this request.", "The server's log says why.")


@dataclass(eq=False)
class QueuedRequest:
    """A request on its way. max_tokens bounds prompt and answer together; next_token was chosen last.

    ended says that its place was given back.
    """

    answer: StreamedAnswer
    writer: AnswerWriter
    token_ids: Sequence[int]
    slot: str | None
    max_tokens: int
    next_token: int = -1
    ended: bool = False
    began: float = field(default_factory=time.monotonic)


class Scheduler:
    """The work of the model's thread: one prompt is read at a time, and all answers that are begun grow together."""

    def __init__(
        self, model: Any, slots: AdapterSlots, *, device: str, num_tokens: int, settings: ServerSettings
    ) -> None:
        """num_tokens: of the vocabulary that mean something."""
        self._model = model
        self._slots = slots
        self._device = device
        self._num_tokens = num_tokens
        self._settings = settings
        self._batch: Batch[QueuedRequest] = Batch(model, slots, device=device)
        # of the base, known once the first piece was read
        self._row_size: RowSize | None = None
        self._kept = KeptPrompts(max_bytes=cache_bytes(settings.prompt_cache_bytes, device=device))
        self._changed = threading.Lock()
        self._waiting: deque[QueuedRequest] = deque()
        self._reading: tuple[QueuedRequest, PromptReader] | None = None
        self._num_open = 0
        self._leaving: set[str] = set()
        self._mean_seconds = 1.0
        self.healthy = True

    @property
    def busy(self) -> bool:
        """Whether a step would do something."""
        return bool(self._waiting or self._reading or self._batch.rows or self._leaving)

    @property
    def num_waiting(self) -> int:
        """Requests whose prompt nobody has begun to read. Any thread may ask."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests whose prompt is read or that are answered. Any thread may ask."""
        return len(self._batch.rows) + (self._reading is not None)

    def check_room(self) -> None:
        """Raise BusyError when a request would be refused now."""
        if self._num_open >= self._settings.max_requests:
            raise BusyError(num_waiting=self._num_open, retry_after_seconds=max(1, math.ceil(self._mean_seconds)))

    def submit(self, request: QueuedRequest) -> None:
        """Queue a request. Raises BusyError when there is no place."""
        with self._changed:
            self.check_room()
            self._num_open += 1
            self._waiting.append(request)

    def withdraw(self, request: QueuedRequest) -> None:
        """Take a request out of the queue if it still waits; a step that is at it drops it by itself."""
        with self._changed:
            if request in self._waiting:
                self._waiting.remove(request)
                self._num_open -= 1

    @torch.inference_mode()
    def advance(self) -> None:
        """Drop what nobody waits for, read a piece of a prompt, and let each row of the batch take a step."""
        try:
            self._drop_cancelled()
            self._read()
            if self._batch.rows:
                self._step()
        except torch.OutOfMemoryError:
            self._abandon_begun(NO_MEMORY)
            self.make_room()
        except torch.AcceleratorError:
            LOGGER.exception("the device failed")
            self.healthy = False
            self.abandon(EngineError("The device failed.", "Start the server again."))
        self._free_left()

    def abandon(self, error: PlatformError) -> None:
        """End every request with error."""
        with self._changed:
            waiting, self._waiting = list(self._waiting), deque()
        self._abandon_begun(error)
        for request in waiting:
            self._end(request, error)
        self._free_left()

    def _abandon_begun(self, error: PlatformError) -> None:
        begun, self._reading = self._begun(), None
        self._batch.keep([])
        for request in begun:
            self._end(request, error)

    def release(self, slot: str) -> None:
        """Free an adapter's slot, on the model's thread, as soon as no request that was accepted needs it."""
        self._leaving.add(slot)
        self._free_left()

    def _free_left(self) -> None:
        if not self._leaving:
            return
        with self._changed:
            needed = {request.slot for request in [*self._waiting, *self._begun()]}
        for slot in self._leaving - needed:
            self._leaving.remove(slot)
            self._slots.free(slot)
            self._kept.forget(slot)

    def make_room(self) -> None:
        """Give back what is kept for later, on the model's thread, when memory ran out."""
        self._kept.clear()
        torch.cuda.empty_cache()

    def _begun(self) -> list[QueuedRequest]:
        return [*self._batch.rows, *([self._reading[0]] if self._reading else [])]

    def _drop_cancelled(self) -> None:
        # a client may leave between two looks: one look decides
        left = {place for place, row in enumerate(self._batch.rows) if row.answer.cancelled}
        for place in left:
            self._end(self._batch.rows[place], None)
        self._batch.keep([place for place in range(len(self._batch.rows)) if place not in left])
        if self._reading and self._reading[0].answer.cancelled:
            self._reading[1].keep()
            self._end(self._reading[0], None)
            self._reading = None

    def _read(self) -> None:
        if self._reading is None:
            request = self._next()
            if request is None:
                return
            if request.slot is not None and request.slot not in self._slots:
                self._end(request, NO_ADAPTER)
                return
            reader = PromptReader(
                self._model, request.token_ids, device=self._device, kept=self._kept, slot=request.slot
            )
            self._reading = request, reader
        request, reader = self._reading
        self._slots.select([request.slot])
        try:
            logits = reader.read(PIECE_TOKENS)
            request.answer.num_cached_tokens = reader.num_cached
            self._row_size = self._row_size or row_size(reader.cache)
            # what was kept just now must not take what rows have still to grow into
            self._find_room(self._begun())
        except torch.OutOfMemoryError:
            self.make_room()
            self._reading = None
            self._end(request, NO_MEMORY)
            return
        if logits is None:
            return
        # it is being read until the batch has it: what fails in between must find it
        if self._write(request, logits):
            self._batch.join(request, reader.cache, num_tokens=len(request.token_ids))
        self._reading = None

    def _next(self) -> QueuedRequest | None:
        """The request that came first, if the batch has a row and the memory for it. None overtakes it.

        Rows are padded to the longest, so a batch holds as many tokens as its longest row in each of them.
        """
        with self._changed:
            rows = self._batch.rows
            if not self._waiting or len(rows) >= self._settings.max_batch:
                return None
            longest = max(row.max_tokens for row in [*rows, self._waiting[0]])
            if rows and longest * (len(rows) + 1) > self._settings.max_batch_tokens:
                return None
            if not self._find_room([*rows, self._waiting[0]]) and rows:
                return None
            return self._waiting.popleft()

    def _find_room(self, requests: Sequence[QueuedRequest]) -> bool:
        """Whether the device has memory for a batch of all requests at their longest; kept prompts make way for it."""
        if self._row_size is None:
            return True
        longest = max(request.max_tokens for request in requests)
        held = self._row_size.bytes_of(len(self._batch.rows), self._batch.num_tokens)
        while lacks_room(self._row_size, device=self._device, num_rows=len(requests), num_tokens=longest, held=held):
            if not self._kept.drop_oldest():
                return False
        return True

    def _step(self) -> None:
        logits = self._batch.step()
        going = [place for place, row in enumerate(self._batch.rows) if self._write(row, logits[place])]
        self._batch.keep(going)

    def _write(self, request: QueuedRequest, logits: torch.Tensor) -> bool:
        """Choose and send the request's next token from logits (vocabulary); whether there are more to come."""
        try:
            # Bases pad their vocabulary beyond the tokenizer's: those rows mean nothing
            request.next_token, delta = request.writer.write(logits[: self._num_tokens].float())
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except PlatformError as error:
            self._end(request, error)
            return False
        except Exception:
            LOGGER.exception("a request failed")
            self._end(request, FAILED)
            return False
        if delta.finish_reason:
            # before the client knows, who may ask again at once
            self._end(request, None)
        request.answer.send(delta)
        return not delta.finish_reason

    def _end(self, request: QueuedRequest, error: PlatformError | None) -> None:
        """Give its place back, once, whoever finds that it ended."""
        if request.ended:
            return
        request.ended = True
        with self._changed:
            self._num_open -= 1
            self._mean_seconds += NEWEST_SHARE * (time.monotonic() - request.began - self._mean_seconds)
        if error:
            request.answer.send(error)
