"""Loading takes little more memory than the 4-bit model that comes of it: never a 16-bit copy of the whole base."""

import json
import select
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from finetune.model.quiet import quiet_libraries

pytestmark = pytest.mark.slow
MB = 10**6
LARGER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
LOAD = """
import sys
from pathlib import Path
import bitsandbytes, torch, transformers, transformers.models.qwen3.modeling_qwen3
from finetune.contracts.adapter import Quantization
from finetune.model.loading import load_weights
torch.nn.Linear(8, 8)(torch.ones(8)).sum().backward()
print("ready", flush=True)
sys.stdin.readline()
model = load_weights(Path(sys.argv[1]), quantization=Quantization.NF4, device="cpu", keep_16bit=["lm_head"])
print("loaded", flush=True)
sys.stdin.readline()
"""


def private_bytes(pid: int) -> int:
    """Memory of a process that is no page of a file: what a machine must really have."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024


def growth(base: str) -> tuple[int, int]:
    """By how many bytes a process grows while it loads a base, at its worst and at the end."""
    command = [sys.executable, "-c", LOAD, base]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout
        assert child.stdout.readline() == "ready\n"
        before = peak = private_bytes(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        while not select.select([child.stdout], [], [], 0.002)[0]:
            peak = max(peak, private_bytes(child.pid))
        assert child.stdout.readline() == "loaded\n"
        end = private_bytes(child.pid)
        child.stdin.write("\n")
    return peak - before, end - before


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of 270 MB in 16 bit, all but 1 MB of it in linear maps, in some files."""
    configs = Path(__file__).parents[3] / "assets" / "families"
    folder = tmp_path_factory.mktemp("bases") / "sharded"
    with quiet_libraries():
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model(**{**json.loads((configs / "qwen3.json").read_text()), **LARGER})
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
        model.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.01)
        model.save_pretrained(folder, max_shard_size="48MB")
    assert len(list(folder.glob("*.safetensors"))) > 4
    return folder


def test_the_peak_of_loading_is_bounded(sharded: Path) -> None:
    sixteen_bit = sum(path.stat().st_size for path in sharded.glob("*.safetensors"))
    assert sixteen_bit > 250 * MB
    peak, end = growth(str(sharded))
    assert end < 0.5 * sixteen_bit
    assert peak < 0.7 * sixteen_bit
