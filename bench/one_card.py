"""What it takes for a server to leave its card and to come back, and what of its memory stays.

A server of the base in a folder runs in a process of its own; this one asks for its card as a training run does.
Without --base a base of random weights, about 220M parameters, is made in a scratch folder. Memory is what is resident
of the server's process, and what the driver says that it has on the card.
Run: .venv/bin/python bench/one_card.py [--base DIR] [--quantization none] [--rounds 3]
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from finetune.cli.card import having_card
from finetune.contracts.run import Home

EMBEDDED = Path(__file__).resolve().parents[1] / "finetune" / "embedded" / "base"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
POLL_SECONDS = 0.02


def make_base(folder):
    """The embedded base, four times as wide and twice as deep, with random weights."""
    import torch

    from finetune.model.quiet import quiet_libraries

    config = json.loads((EMBEDDED / "config.json").read_text())
    config.update(hidden_size=1024, intermediate_size=4096, layer_types=2 * config["layer_types"], num_hidden_layers=16)
    with quiet_libraries():
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
        model.to(torch.bfloat16).save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(EMBEDDED / name, folder)
    return folder


def is_ready(url):
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def host_mib(pid):
    """Resident memory of the process; 16-bit weights on a CPU are their file's pages."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def card_mib(pid):
    """What the driver holds for the process, 0 without one."""
    if not shutil.which("nvidia-smi"):
        return 0.0
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    rows = [row.split(",") for row in subprocess.check_output(command, text=True).splitlines() if row]
    return sum(float(used) for owner, used in rows if int(owner) == pid)


def memory(pid):
    return host_mib(pid), card_mib(pid)


def rounds(server, url, home, count):
    """Seconds to leave and to come back, and memory while it serves, is away, and is back."""
    for _ in range(count):
        serving = memory(server.pid)
        asked = time.monotonic()
        with having_card(home, "the bench"):
            left = time.monotonic() - asked
            away = memory(server.pid)
            freed = time.monotonic()
        while not is_ready(url):
            time.sleep(POLL_SECONDS)
        yield left, time.monotonic() - freed, serving, away, memory(server.pid)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", type=Path)
    parser.add_argument("--quantization", default="none")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = given.base or make_base(Path(scratch) / "base")
        home = Home(Path(scratch) / "home")
        command = [sys.executable, "-m", "finetune", "serve", "start", str(base), "--port", "0", "--json"]
        command += ["--home", str(home.root), "--quantization", given.quantization]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                lines = iter(server.stdout.readline, "}\n")
                url = json.loads("".join(lines) + "}")["url"]
                figures = list(rounds(server, url, home, given.rounds))
            finally:
                server.kill()
    left, back, serving, away, again = zip(*figures, strict=True)
    print(f"to leave {statistics.median(left):.1f} s, to come back {statistics.median(back):.1f} s, medians")
    for name, where in (("serving", serving), ("away", away), ("back", again)):
        host, card = (statistics.median(values) for values in zip(*where, strict=True))
        print(f"{name:8} {host:7.0f} MiB of the host, {card:7.0f} MiB of the card")


if __name__ == "__main__":
    main()
