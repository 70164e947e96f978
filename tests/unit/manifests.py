"""Adapter manifests for tests: as small as the contract allows, with what a test is about put in place of it."""

from collections.abc import Mapping
from typing import Any

from finetune.contracts.adapter import (
    AdapterDigests,
    AdapterManifest,
    BaseIdentity,
    FamilyFacts,
    Quantization,
    ReferenceProbe,
)

BASE = BaseIdentity(name="tiny", digest="b" * 64, model_type="qwen3", num_hidden_layers=1, hidden_size=4)


def build_manifest(adapter_id: str, *, digests: Mapping[str, str] | None = None, **changes: Any) -> AdapterManifest:
    """A manifest; digests replace some of "w", "c", "t", "d" and "r", changes replace whole fields."""
    known = {"weights": "w", "chat_template": "c", "tokenizer": "t", "dataset": "d", "recipe": "r"}
    fields: dict[str, Any] = {
        "adapter_id": adapter_id,
        "run_id": "run",
        "created_at": 0,
        "base": BASE,
        "family": FamilyFacts(
            family="qwen3",
            fim_prefix=None,
            fim_suffix=None,
            fim_middle=None,
            infill_stops=(),
            chat_stops=(),
            thinking=False,
        ),
        "rank": 2,
        "alpha": 4.0,
        "targets": ("q_proj",),
        "layer_kinds": ("full_attention",),
        "quantization": Quantization.NONE,
        "digests": AdapterDigests(**{**known, **(digests or {})}),
        "probe": ReferenceProbe(token_ids=(), continuation_ids=(), base_log_probs=(), adapter_log_probs=()),
        "files": (),
        "visibility": ("internal",),
    }
    return AdapterManifest(**{**fields, **changes})
