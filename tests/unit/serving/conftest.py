"""A fake engine with one token a byte, an adapters folder without weights, and the application over both."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from finetune.contracts.adapter import (
    BaseIdentity,
    Quantization,
    ReferenceProbe,
)
from finetune.contracts.adapter_files import list_files
from finetune.contracts.errors import AdapterError, PlatformError
from finetune.contracts.io import digest_file, digest_text, write_json
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
from tests.unit.manifests import build_manifest

BASE = BaseIdentity(
    name="base", digest=digest_text("base"), model_type="qwen3_5_text", num_hidden_layers=4, hidden_size=64
)
BASE_LOG_PROBS, ADAPTER_LOG_PROBS = (-2.0, -3.0), (-1.0, -1.5)


class FakeGeneration:
    """Plays a list of deltas; blocks before the end when hang is set."""

    num_cached_tokens = 0

    def __init__(self, deltas: list[Delta], *, num_prompt_tokens: int, hang: bool, fail: bool) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self.truncated = False
        self.cancelled = False
        self.failed_with: PlatformError | None = None
        self._deltas = deltas
        self._hang = hang
        self._fail = fail

    async def __aiter__(self) -> AsyncIterator[Delta]:
        for delta in self._deltas[:-1]:
            yield delta
        if self._fail:
            raise EngineError("The device failed.", "Start the server again.")
        while self._hang and not self.cancelled:
            await asyncio.sleep(0.01)
        if self.failed_with:
            raise self.failed_with
        yield self._deltas[-1]

    def cancel(self) -> None:
        self.cancelled = True

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


def save_bare_adapter(folder: Path, *, rank: int = 8, content: int = 0, **changes: object) -> Path:
    """An adapter folder whose weights file has a true header and one tensor of content, a byte."""
    folder.mkdir(parents=True)
    shapes = {"A": [rank, 4], "B": [4, rank]}
    header, place = {}, 0
    for factor, shape in shapes.items():
        end = place + 4 * shape[0] * shape[1]
        name = f"base_model.model.model.layers.0.self_attn.q_proj.lora_{factor}.weight"
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, end]}
        place = end
    save_weights(folder, header, place, content=content)
    save_config(folder, rank=rank)
    weights = digest_file(folder / "adapter_model.safetensors")
    manifest = build_manifest(
        f"shop-{weights[:12]}",
        created_at=1_700_000_000,
        base=BASE,
        rank=rank,
        alpha=16.0,
        quantization=Quantization.NF4,
        digests={
            "weights": weights,
            "chat_template": digest_text("template"),
            "tokenizer": digest_text("tokenizer"),
        },
        probe=ReferenceProbe(
            token_ids=(1, 2),
            continuation_ids=(3, 4),
            base_log_probs=BASE_LOG_PROBS,
            adapter_log_probs=ADAPTER_LOG_PROBS,
        ),
        files=list_files(folder),
    )
    write_json(folder / "manifest.json", manifest.model_copy(update=changes))
    return folder


def save_weights(folder: Path, header: dict[str, object], num_bytes: int, *, content: int = 0) -> None:
    """A safetensors file by hand: length of the header, header, so many bytes of content."""
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + bytes([content]) * num_bytes
    (folder / "adapter_model.safetensors").write_bytes(content)


def save_config(folder: Path, *, rank: int, **changes: object) -> None:
    """adapter_config.json as PEFT writes it."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": 16.0,
        "lora_dropout": 0.05,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "target_modules": ["q_proj"],
        "qalora_group_size": 16,
        "megatron_core": "megatron.core",
    }
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


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
