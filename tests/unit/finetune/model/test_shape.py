"""The shape that is read off a configuration: true sizes of a 27B and a 397B, and what layers keep, by real runs."""

import json
from pathlib import Path

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import BaseModelError, RecipeError
from finetune.families.qwen3_5 import QWEN3_5
from finetune.model.loading import load_base
from finetune.model.lora import attach
from finetune.model.shape import read_shape
from finetune.plan.shape import ModelShape
from finetune.recipe.resolve import ResolvedLora

ASSETS = Path(__file__).parents[3] / "assets"
ALL = QWEN3_5.targets["attention+mlp+linear_attention"]


@pytest.fixture(scope="module")
def dense() -> ModelShape:
    return read_shape(ASSETS / "plan" / "qwen3_6-27b", targets=ALL, rank=16)


def test_a_27b_has_its_published_numbers(dense: ModelShape) -> None:
    assert dense.parameters == pytest.approx(26.896e9, rel=0.001)
    assert dense.map_parameters == pytest.approx(24.351e9, rel=0.001)
    assert dense.vocabulary_parameters == pytest.approx(1.271e9, rel=0.001)
    assert {layer.kind: layer.count for layer in dense.layers} == {"linear_attention": 48, "full_attention": 16}
    assert dense.adapter_parameters(ALL, 16) == pytest.approx(108.8e6, rel=0.001)
    assert dense.adapter_parameters(QWEN3_5.targets["attention+mlp"], 16) == pytest.approx(79.7e6, rel=0.001)


def test_its_maps_have_their_sizes(dense: ModelShape) -> None:
    found = {maps.name: (maps.outputs, maps.inputs, maps.count) for maps in dense.maps}
    assert found["in_proj_qkv"] == (10240, 5120, 48)
    assert found["q_proj"] == (12288, 5120, 16)
    assert found["down_proj"] == (5120, 17408, 64)
    assert dense.cache_bytes == 16 * 2 * 4 * 256 * 2


def test_its_layers_take_what_was_measured_on_a_cpu(dense: ModelShape) -> None:
    """289 and 798 KB per token were measured to be saved without adapters, which add what their factors make."""
    linear, full = dense.layers
    assert full.fast.saved == pytest.approx(289e3, rel=0.05)
    assert linear.plain.saved == pytest.approx(798e3, rel=0.1)
    assert linear.fast.backward == pytest.approx(450e3, rel=0.05)
    assert full.fast == full.plain
    assert linear.fast.forward < linear.fast.saved < linear.fast.backward < linear.plain.backward


def test_experts_are_counted_whole_and_by_what_a_token_uses() -> None:
    shape = read_shape(ASSETS / "plan" / "qwen3_5-397b-a17b", targets=("q_proj", "o_proj"), rank=16)
    experts = {maps.name: maps for maps in shape.maps if maps.experts > 1}
    assert set(experts) == {"experts.gate_up_proj", "experts.down_proj"}
    assert sum(maps.parameters for maps in experts.values()) == 60 * 512 * 3 * 4096 * 1024
    assert shape.parameters == pytest.approx(397e9, rel=0.002)
    active = sum(maps.active_parameters for maps in shape.maps) + 2 * shape.vocabulary_parameters
    assert active == pytest.approx(17e9, rel=0.02)
    # an adapter on "down_proj" is one on the shared expert's map, not on the fused tensor
    assert shape.adapter_parameters(("down_proj",), 1) == 60 * (1024 + 4096)


def test_a_target_that_is_not_there_is_refused() -> None:
    with pytest.raises(RecipeError, match="called qkv_proj") as caught:
        read_shape(ASSETS / "plan" / "qwen3_6-27b", targets=("q_proj", "qkv_proj"), rank=4)
    assert "in_proj_qkv" in caught.value.hint


def test_a_configuration_of_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_5_text", "hidden_size": "wide"}))
    with pytest.raises(BaseModelError, match="No model can be built"):
        read_shape(tmp_path, targets=ALL, rank=4)


def test_the_adapter_is_counted_as_it_is_attached(tiny_base: Path) -> None:
    section = ResolvedLora(rank=4, alpha=8.0, dropout=0.0, rank_stabilized=False, targets=ALL)
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    model = attach(base, section)
    trained = sum(part.numel() for part in model.parameters() if part.requires_grad)
    shape = read_shape(tiny_base, targets=ALL, rank=4)
    assert shape.adapter_parameters(ALL, 4) == trained
    assert shape.parameters == sum(part.numel() for part in model.parameters()) - trained


def test_what_a_layer_keeps_agrees_with_a_real_forward(tiny_base: Path) -> None:
    """A real layer of full attention on the CPU, with autograd's own hooks counting what it saves."""
    section = ResolvedLora(rank=4, alpha=8.0, dropout=0.0, rank_stabilized=False, targets=ALL)
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    model = attach(base, section).bfloat16().train()
    layer, lengths = base.model.model.layers[3], (512, 1024)
    parameters = {part.untyped_storage().data_ptr() for part in model.parameters()}

    def saved(length: int) -> int:
        kept: dict[int, torch.UntypedStorage] = {}
        hidden = torch.randn(1, length, 64, dtype=torch.bfloat16, requires_grad=True)
        rotary = base.model.model.rotary_emb(hidden, torch.arange(length)[None])
        apart = parameters | {part.untyped_storage().data_ptr() for part in (*rotary, hidden)}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in apart:
                kept[storage.data_ptr()] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            layer(hidden, position_embeddings=rotary, attention_mask=None)
        return sum(storage.nbytes() for storage in kept.values())

    measured = (saved(lengths[1]) - saved(lengths[0])) / (lengths[1] - lengths[0])
    found = read_shape(tiny_base, targets=ALL, rank=4).layers[1].plain.saved
    assert found == pytest.approx(measured, rel=0.1)


def test_the_library_s_kernels_are_never_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a GPU's kernels are installed the library calls them, and on tensors without memory they break the GPU."""
    from transformers.models.qwen3_5 import modeling_qwen3_5

    def kernel(*args: object, **kwargs: object) -> None:
        raise AssertionError("an illegal memory access was encountered")

    monkeypatch.setattr(modeling_qwen3_5, "torch_chunk_gated_delta_rule", kernel)
    monkeypatch.setattr(modeling_qwen3_5, "causal_conv1d_fn", kernel)
    assert read_shape(ASSETS / "plan" / "qwen3_6-27b", targets=("q_proj", "in_proj_qkv"), rank=16).layers
