"""A tiny base in float32, adapters on it, and a server over both, for tests of adapters that change at run time.

In float32 a greedy answer is the same whatever shares its steps, so answers can be compared token by token.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from finetune.contracts.adapter import Quantization
from finetune.contracts.adapter_files import read_manifest
from serving.client import call
from serving.run import prepared_server, serve_in_thread
from serving.settings import ServerSettings

PROMPT = "def total(cart):\n    "
WAIT_SECONDS = 60.0


@dataclass
class Site:
    """A home with adapters, and the folder of the base that they are made for."""

    base: Path
    home: Path

    @property
    def adapters(self) -> Path:
        return self.home / "adapters"

    def id_of(self, name: str) -> str:
        """What a server says answered when it was the adapter in that folder."""
        return read_manifest(self.adapters / name).adapter_id

    def copied(self, home: Path) -> "Site":
        """The same with a home of its own."""
        shutil.copytree(self.adapters, home / "adapters")
        return Site(self.base, home)


@dataclass
class Endpoint:
    """A running server over a site. engine is the one behind it."""

    site: Site
    url: str
    client: openai.OpenAI
    engine: Any
    paused: threading.Event = field(default_factory=threading.Event)

    def load(self, name: str, adapter: str) -> None:
        """Let name stand for the adapter in that folder."""
        call(self.url, "/v1/adapters/alias", expects="adapter", body={"alias": name, "adapter": adapter})

    def roll_back(self, name: str) -> None:
        call(self.url, "/v1/adapters/rollback", expects="adapter", body={"alias": name})

    def unload(self, name: str) -> None:
        call(self.url, "/v1/unload_lora_adapter", expects="name", body={"lora_name": name})

    def names(self) -> set[str]:
        return {card["name"] for card in self.adapters()["data"]}

    def adapters(self) -> dict[str, Any]:
        return call(self.url, "/v1/adapters", expects="available")

    def num_active(self) -> int:
        """Requests that hold an adapter now."""
        return sum(version["num_active"] for version in self.adapters()["versions"])

    def answer(self, model: str, prompt: str = PROMPT, *, max_tokens: int = 16) -> Any:
        """A greedy answer."""
        return self.client.completions.create(model=model, prompt=prompt, max_tokens=max_tokens, temperature=0)

    def ask(self, model: str, prompt: str = PROMPT, *, max_tokens: int = 16) -> str:
        return str(self.answer(model, prompt, max_tokens=max_tokens).choices[0].text)

    def stream(self, model: str, *, max_tokens: int) -> Any:
        return self.client.completions.create(
            model=model, prompt=PROMPT, max_tokens=max_tokens, temperature=0, stream=True
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """No answer grows while the block runs; loads and unloads go on, as they do between two steps."""
        self.paused.set()
        try:
            yield
        finally:
            self.paused.clear()


@contextmanager
def endpoint(site: Site, *, port: int = 0, **limits: Any) -> Iterator[Endpoint]:
    """Serve the site, its base in float32; limits are of ServerSettings."""
    from serving.engines import transformers

    engines: list[Any] = []
    paused = threading.Event()
    load_engine, load_base = transformers.load_engine, transformers.load_base

    def load_full(*arguments: Any, **options: Any) -> Any:
        base = load_base(*arguments, **options)
        base.model.float()
        return base

    def load_pausing(*arguments: Any, **options: Any) -> Any:
        engine = load_engine(*arguments, **options)
        advance = engine._scheduler.advance
        # the thread looks for calls between two steps
        engine._scheduler.advance = lambda: time.sleep(0.001) if paused.is_set() else advance()
        engines.append(engine)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers, "load_base", load_full)
        patch.setattr(transformers, "load_engine", load_pausing)
        settings = ServerSettings(port=port, **limits)
        served = site.home / "served"
        prepare = prepared_server(
            site.base, site.adapters, settings=settings, quantization=Quantization.NONE, states=served
        )
        with (
            prepare as prepared,
            serve_in_thread(prepared),
            openai.OpenAI(base_url=f"{prepared.url}/v1", api_key="none", max_retries=0, timeout=120) as client,
        ):
            yield Endpoint(site, prepared.url, client, engines[0], paused)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until condition holds, which it must within a minute."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Reference:
    """What the base, and the base with each adapter under PEFT, answer: greedy, one full pass a token, no cache."""

    def __init__(self, site: Site, names: tuple[str, ...]) -> None:
        from finetune.model.loading import load_base
        from finetune.model.lora import attach_saved

        self._base = load_base(site.base, quantization=Quantization.NONE, device="cpu")
        self._base.model.float()
        self._model: Any = None
        for name in names:
            self._model = attach_saved(self._base, site.adapters / name, name, onto=self._model)
        self._one_at_a_time = threading.Lock()
        self._known: dict[tuple[str | None, str], list[int]] = {}

    def text(self, name: str | None, prompt: str = PROMPT, *, max_tokens: int = 16) -> str:
        """The first tokens of the answer with an adapter; None is the base alone."""
        # PEFT's switches are not safe across threads
        with self._one_at_a_time:
            known = self._known.setdefault((name, prompt), [])
            if len(known) < max_tokens:
                self._extend(known, name, prompt, max_tokens=max_tokens)
        return str(self._base.tokenizer.decode(known[:max_tokens], skip_special_tokens=True))

    def _extend(self, known: list[int], name: str | None, prompt: str, *, max_tokens: int) -> None:
        import torch

        if name is not None:
            self._model.set_adapter(name)
        given = self._base.tokenizer.encode(prompt)
        with torch.inference_mode(), self._model.disable_adapter() if name is None else nullcontext():
            while len(known) < max_tokens:
                logits = self._model(input_ids=torch.tensor([[*given, *known]]), use_cache=False).logits[0, -1]
                known.append(int(logits[: len(self._base.tokenizer)].argmax()))
        assert not set(known) & set(self._base.tokenizer.all_special_ids), "an end token would end the answer"
