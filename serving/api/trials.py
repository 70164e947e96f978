"""What two versions of a name did with its requests: a line each in a file, and copies to the one that is tried."""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import PlatformError
from serving.adapters.trials import Trial
from serving.adapters.versions import Lease
from serving.engines.base import Prompt, Sampling

if TYPE_CHECKING:
    from serving.api.service import OpenAnswer

LOGGER = logging.getLogger("serving")
# At a time: copies are the first to be left out when there is much to do
MAX_COPIES = 8
Role = Literal["current", "tried", "copy"]


class TrafficRecord(Contract):
    """One answer of a name under which something is tried.

    role says why this version answered; a request and its copy have the same pair. at is in seconds since 1970,
    seconds are from acceptance to the end. outcome is whole, left where the client did not wait, or an error's message.
    prompts None: they are not kept.
    """

    at: float
    pair: str
    model: str
    adapter_id: str
    role: Role
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    outcome: str
    prompts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Asked:
    """A request as the engine gets it."""

    model: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling
    num_answers: int
    schema: str | None = None


Accept = Callable[[Asked, Lease], "Awaitable[OpenAnswer]"]


class Trials:
    """Writes records to the file at log, None: nowhere. with_prompts says whether what was asked stands in them."""

    def __init__(self, log: Path | None = None, *, with_prompts: bool = False) -> None:
        self._log = log
        self._with_prompts = with_prompts
        self._copies: set[asyncio.Task[None]] = set()

    def follow(self, asked: Asked, answer: "OpenAnswer", *, trial: Trial, accept: Accept) -> None:
        """Record what becomes of an answer, and ask the version that gets copies, unless it has many already."""
        pair = uuid.uuid4().hex
        tried = answer.lease.name == trial.version.adapter_id
        self._record(asked, answer, pair=pair, role="tried" if tried else "current")
        if trial.share is None and len(self._copies) < MAX_COPIES:
            task = asyncio.ensure_future(self._copy(asked, trial.version.lease(), pair=pair, accept=accept))
            self._copies.add(task)
            task.add_done_callback(self._copies.discard)

    async def _copy(self, asked: Asked, lease: Lease, *, pair: str, accept: Accept) -> None:
        try:
            answer = await accept(asked, lease)
        except PlatformError as error:
            LOGGER.info("a copied request was not taken: %s", error.message)
            return
        self._record(asked, answer, pair=pair, role="copy")
        try:
            await answer.whole()
        except PlatformError:
            # the record says so
            pass
        finally:
            answer.close()

    def _record(self, asked: Asked, answer: "OpenAnswer", *, pair: str, role: Role) -> None:
        started = time.time()

        def write() -> None:
            usage = answer.usage()
            record = TrafficRecord(
                at=started,
                pair=pair,
                model=asked.model,
                adapter_id=answer.lease.name,
                role=role,
                seconds=time.time() - started,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                outcome=answer.outcome,
                prompts=tuple(repr(prompt) for prompt in asked.prompts) if self._with_prompts else None,
            )
            self._append(record)

        answer.when_closed.append(write)

    def _append(self, record: TrafficRecord) -> None:
        if self._log is None:
            return
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as stream:
                stream.write(record.model_dump_json(exclude_none=True) + "\n")
        except OSError:
            # it costs the record alone
            LOGGER.exception("a record of traffic could not be written")
