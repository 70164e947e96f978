"""A server in a process of its own over a base in float32, where an answer in a batch is the one that it is alone.

Adapters of random weights are made on the base, and a client asks over plain connections, so that it takes little of
the machine. Other benches use this module; as a program it is the server: endpoint.py BASE ADAPTERS prints its port.
"""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RANK, ALPHA, SCALE = 16, 32.0, 0.3
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """What came, which version said that it wrote it, and seconds to the first token and to the end."""

    text: str
    finish_reason: str
    num_tokens: int
    version: str
    first_seconds: float
    seconds: float


@dataclass(frozen=True)
class Endpoint:
    """A running server: its process and port."""

    pid: int
    port: int

    def post(self, path, body):
        """The JSON document of an answer. Raises RuntimeError with a refusal's words."""
        with contextlib.closing(self.connection()) as connection:
            return json.loads(_accepted(connection, path, body).read())

    def get(self, path):
        """An answer's text."""
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def connection(self):
        """One for a client to keep."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)

    @property
    def memory(self):
        """Bytes of resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def move(self, alias, adapter):
        """Let alias stand for an adapter."""
        return self.post("/v1/adapters/alias", {"alias": alias, "adapter": adapter})["adapter"]["adapter_id"]

    def unload(self, alias):
        """Take a name off, and wait until its adapter is gone."""
        self.post("/v1/unload_lora_adapter", {"lora_name": alias})


def ask(connection, model, prompt, *, max_tokens, stream, temperature=0.0):
    """One answer, as a stream or whole. Raises RuntimeError for anything but a whole answer of one version."""
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": temperature, "stream": stream}
    began = time.perf_counter()
    if not stream:
        document = json.loads(_accepted(connection, "/v1/completions", body).read())
        (choice,) = document["choices"]
        seconds = time.perf_counter() - began
        version, num_tokens = document["system_fingerprint"], document["usage"]["completion_tokens"]
        return Answer(choice["text"], choice["finish_reason"], num_tokens, version, seconds, seconds)
    answer = _accepted(connection, "/v1/completions", {**body, "stream_options": {"include_usage": True}})
    chunks, first = [], None
    while (line := answer.readline()).strip() != b"data: [DONE]":
        if not line:
            raise RuntimeError("The stream ended before its end.")
        if line.strip():
            chunks.append(_chunk(line))
            first = first or time.perf_counter()
    answer.read()
    return _joined(chunks, first_seconds=first - began, seconds=time.perf_counter() - began)


def _accepted(connection, path, body):
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{path}: {answer.status} {answer.read().decode()}")
    return answer


def _chunk(line):
    document = json.loads(line.removeprefix(b"data: "))
    if "error" in document:
        raise RuntimeError(f"The stream broke: {document['error']['message']}")
    return document


def _joined(chunks, *, first_seconds, seconds):
    versions = {chunk["system_fingerprint"] for chunk in chunks}
    if len(versions) != 1:
        raise RuntimeError(f"One stream names {len(versions)} versions.")
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    num_tokens = chunks[-1]["usage"]["completion_tokens"]
    text, reason = "".join(choice["text"] for choice in choices), choices[-1]["finish_reason"]
    return Answer(text, reason, num_tokens, versions.pop(), first_seconds, seconds)


@contextlib.contextmanager
def endpoint(base: Path, adapters: Path) -> Iterator[Endpoint]:
    """A server over base and the folder adapters while the block runs."""
    command = [sys.executable, __file__, str(base), str(adapters)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            port = process.stdout.readline()
            if not port.strip():
                raise RuntimeError("The server did not start; its messages above say why.")
            yield Endpoint(process.pid, int(port))
        finally:
            process.terminate()


def make_base(folder: Path, *, num_layers: int = 2) -> Path:
    """A base of random weights with the tokenizer of the embedded one: half its layers recurrent, half attention."""
    import torch

    from finetune.embedded import BASE_FOLDER
    from finetune.model.quiet import quiet_libraries

    with quiet_libraries():
        from transformers import AutoConfig, AutoModelForCausalLM

        shutil.copytree(BASE_FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        config = AutoConfig.from_pretrained(BASE_FOLDER)
        config.num_hidden_layers = num_layers
        config.layer_types = ["linear_attention", "full_attention"] * (num_layers // 2)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def make_adapters(base: Path, root: Path, names: Sequence[str]) -> None:
    """Adapters of random weights on all maps of the base, each another one, exported under these names in root."""
    import torch

    from finetune.adapters.export import AdapterOrigin, write_adapter
    from finetune.contracts.adapter import Quantization
    from finetune.contracts.io import digest_text
    from finetune.model.loading import load_base
    from finetune.model.lora import attach
    from finetune.recipe.resolve import ResolvedLora

    for seed, name in enumerate(names):
        loaded = load_base(base, quantization=Quantization.NONE, device="cpu")
        targets = max(loaded.family.targets.values(), key=len)
        section = ResolvedLora(rank=RANK, alpha=ALPHA, dropout=0.0, rank_stabilized=False, targets=targets)
        model = attach(loaded, section, seed=seed)
        for key, parameter in model.named_parameters():
            if ".lora_B." in key:
                torch.nn.init.normal_(parameter, std=SCALE)
        origin = AdapterOrigin("bench", run_id="run", dataset=digest_text("dataset"), recipe=digest_text("recipe"))
        write_adapter(model, loaded, section, origin=origin, folder=root / name)


def serve(base: Path, adapters: Path) -> None:
    """Answer until told to end."""
    import uvicorn

    from finetune.contracts.adapter import Quantization
    from finetune.guard.offline import go_offline
    from finetune.model.loading import load_base
    from serving.adapters.store import AdapterStore
    from serving.app import create_app
    from serving.engines.transformers import TransformersEngine
    from serving.run import listen
    from serving.settings import ServerSettings

    go_offline()
    settings = ServerSettings(port=0)
    loaded = load_base(base, quantization=Quantization.NONE)
    loaded.model.float()
    engine = TransformersEngine(loaded, settings)
    app = create_app(engine, AdapterStore(adapters, max_rank=settings.max_rank), settings=settings)
    with contextlib.closing(listen(settings)) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
