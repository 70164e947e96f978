"""A fake engine with one token a byte, an adapters folder without weights, and the application over both."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from finetune.contracts.adapter import Quantization, ReferenceProbe
from finetune.contracts.errors import AdapterError, PlatformError
from finetune.contracts.io import digest_text
from serving.adapters.registry import AdapterRegistry
from serving.adapters.store import AdapterStore
from serving.app import create_app
from serving.engines.base import (
    ChatPrompt,
    Delta,
    EngineDescription,
    GenerationRequest,
    InfillPrompt,
    Occupancy,
    ProbeReading,
    TextPrompt,
    TokenScore,
)
from serving.errors import BusyError, EngineError, RequestError
from serving.settings import ServerSettings
from tests.unit.bare_adapters import (
    ADAPTER_LOG_PROBS,
    BASE,
    BASE_LOG_PROBS,
    save_bare_adapter,
    save_config,
    save_weights,
)


class FakeGeneration:
    """Plays a list of deltas; blocks before the end when hang is set."""

    num_cached_tokens = 0

    def __init__(self, deltas: list[Delta], *, num_prompt_tokens: int, hang: bool, fail: bool) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self.truncated = False
        self.cancelled = False
        self.released = False
        self.failed_with: PlatformError | None = None
        self._deltas = deltas
        self._hang = hang
        self._fail = fail

    async def __aiter__(self) -> AsyncIterator[Delta]:
        for delta in self._deltas[:-1]:
            yield delta
        if self._fail:
            raise EngineError("The device failed.", "Start the server again.")
        while self._hang and not self.cancelled and not self.released:
            await asyncio.sleep(0.01)
        if self.failed_with:
            raise self.failed_with
        yield self._deltas[-1]

    def cancel(self) -> None:
        self.cancelled = True

    def release(self) -> None:
        """Go on to the end, if it hangs."""
        self.released = True

    def fail(self, error: PlatformError) -> None:
        self.failed_with = error
        self.cancelled = True


class FakeEngine:
    """Answers "<slot>:<prompt>", a byte a step, or with script. effect and record bend what a probe reads."""

    def __init__(self) -> None:
        self.description = EngineDescription(
            identity=BASE,
            quantization=Quantization.NF4,
            chat_template_digest=digest_text("template"),
            tokenizer_digest=digest_text("tokenizer"),
            max_context_tokens=128,
            device="cpu",
        )
        self.ready = True
        self.busy = False
        self.hang = False
        self.fail = False
        self.broken = False
        self.script: list[Delta] | None = None
        self.adapter_log_probs = ADAPTER_LOG_PROBS
        self.attach_error: AdapterError | None = None
        self.slow_attach = False
        self.slots: list[str] = []
        self.detached: list[str] = []
        self.requests: list[GenerationRequest] = []
        self.generations: list[FakeGeneration] = []
        self.closed = False

    @property
    def occupancy(self) -> Occupancy:
        running = sum(not generation.cancelled for generation in self.generations)
        return Occupancy(num_waiting=0, num_running=running, adapter_bytes=1000 * len(self.slots))

    async def generate(self, request: GenerationRequest) -> FakeGeneration:
        if self.busy:
            raise BusyError(num_waiting=3, retry_after_seconds=7)
        if self.broken:
            raise ValueError("secret detail of /srv/models")
        prompt = _prompt_text(request)
        if len(prompt) > self.description.max_context_tokens:
            raise RequestError("Too long.", "Shorten the prompt.", code="context_length_exceeded")
        self.requests.append(request)
        generation = FakeGeneration(
            self.script or _deltas(f"{request.slot or 'base'}:{prompt}", request),
            num_prompt_tokens=len(prompt),
            hang=self.hang,
            fail=self.fail,
        )
        self.generations.append(generation)
        return generation

    async def attach(self, slot: str, folder: Path, *, probe: ReferenceProbe) -> ProbeReading:
        if self.attach_error:
            raise self.attach_error
        while self.slow_attach:
            await asyncio.sleep(0.01)
        self.slots.append(slot)
        return ProbeReading(BASE_LOG_PROBS, self.adapter_log_probs)

    async def detach(self, slot: str) -> None:
        self.slots.remove(slot)
        self.detached.append(slot)

    def close(self) -> None:
        self.closed = True


def _prompt_text(request: GenerationRequest) -> str:
    match request.prompt:
        case ChatPrompt(turns, _):
            return "|".join(f"{turn.role}={turn.content}" for turn in turns)
        case InfillPrompt(prefix, suffix, context, begun):
            return f"{''.join(path + ':' + text + ';' for path, text in context)}{prefix}[]{suffix}{begun}"
        case TextPrompt(text):
            return text
        case other:
            return str(other)


def _deltas(text: str, request: GenerationRequest) -> list[Delta]:
    limit = request.sampling.max_tokens or 64
    wanted = request.sampling.num_top_log_probs
    top = (("x", -0.5), ("y", -1.5))[: wanted or 0]
    steps = [
        Delta(letter, num_tokens=1, scores=(TokenScore(letter, -0.5, top),) if wanted is not None else ())
        for letter in text[:limit]
    ]
    return [*steps, Delta("", num_tokens=1, finish_reason="stop" if len(text) <= limit else "length")]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def make_engine() -> Callable[[], FakeEngine]:
    return FakeEngine


@pytest.fixture
def settings() -> ServerSettings:
    return ServerSettings(max_tokens=64, max_body_bytes=4096, max_adapters=2, max_rank=16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The adapters folder, with one sound adapter called shop-1."""
    save_bare_adapter(tmp_path / "adapters" / "shop-1")
    return tmp_path / "adapters"


@pytest.fixture
def store(root: Path, settings: ServerSettings) -> AdapterStore:
    return AdapterStore(root, max_rank=settings.max_rank)


@pytest.fixture
def registry(engine: FakeEngine, store: AdapterStore, settings: ServerSettings) -> AdapterRegistry:
    return AdapterRegistry(engine, store, max_adapters=settings.max_adapters)


@pytest.fixture
def client(
    engine: FakeEngine, store: AdapterStore, registry: AdapterRegistry, settings: ServerSettings
) -> Iterator[TestClient]:
    app = create_app(engine, store, settings=settings, registry=registry)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as one:
        yield one


@pytest.fixture
def make_adapter() -> Callable[..., Path]:
    return save_bare_adapter


@pytest.fixture
def write_config() -> Callable[..., None]:
    return save_config


@pytest.fixture
def write_weights() -> Callable[..., None]:
    return save_weights


@pytest.fixture
def make_client(engine: FakeEngine, store: AdapterStore, settings: ServerSettings) -> Callable[..., TestClient]:
    """A client of an application with other settings."""

    def make(**changes: object) -> TestClient:
        app = create_app(engine, store, settings=settings.model_copy(update=changes))
        return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

    return make
