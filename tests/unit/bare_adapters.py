"""Adapter folders without a model: true files, and weights of one map, all of them one byte over and over."""

import json
from pathlib import Path

from finetune.contracts.adapter import BaseIdentity, Quantization, ReferenceProbe
from finetune.contracts.adapter_files import list_files
from finetune.contracts.io import digest_file, digest_text, write_json
from tests.unit.manifests import build_manifest

BASE = BaseIdentity(
    name="base", digest=digest_text("base"), model_type="qwen3_5_text", num_hidden_layers=4, hidden_size=64
)
BASE_LOG_PROBS, ADAPTER_LOG_PROBS = (-2.0, -3.0), (-1.0, -1.5)


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
