"""GGUF: rows and columns where llama.cpp has them, the scale of training, and the same scores in a real build."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest
import torch

from finetune.adapters.export import probe_difference
from finetune.adapters.gguf import export_gguf
from finetune.adapters.variants import export_as
from finetune.contracts.adapter import Quantization
from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.errors import AdapterError, UsageError
from finetune.contracts.export_format import ExportFormat
from finetune.families.base import Family
from finetune.families.registry import FAMILIES
from finetune.model.factors import read_factors
from finetune.model.loading import load_base
from finetune.model.lora import attach_saved
from finetune.recipe.resolve import read_text_config

pytestmark = pytest.mark.slow
MakeBase = Callable[[str], Path]
MakeAdapter = Callable[..., Path]
WRITTEN = [family for family in FAMILIES if family.gguf]


def widest(family: Family) -> str:
    """The preset with most targets that reaches no experts."""
    presets = [name for name, targets in family.targets.items() if not set(targets) & set(family.experts)]
    return max(presets, key=lambda name: len(family.targets[name]))


def written(folder: Path) -> dict[str, torch.Tensor]:
    from gguf import GGUFReader

    (path,) = folder.iterdir()
    return {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in GGUFReader(path).tensors}


def test_value_heads_are_tiled_in_rows_and_columns(
    family_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path, llama: ModuleType
) -> None:
    """The sum that llama.cpp adds to a weight is the sum of training, with its heads where the weight's are."""
    base = family_base("qwen3_5")
    adapter, config = make_adapter(base), read_text_config(base)
    export_gguf(adapter, tmp_path / "out", base=base)
    found, factors = written(tmp_path / "out"), read_factors(adapter, base, read_adapter(adapter))
    size, before = config["linear_value_head_dim"], 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"]

    def sums(name: str, here: str) -> tuple[torch.Tensor, torch.Tensor]:
        part = factors[f"model.layers.0.{name}.weight"]
        return found[f"blk.0.{here}.weight.lora_b"] @ found[f"blk.0.{here}.weight.lora_a"], part.b[0] @ part.a[0]

    there, ours = sums("linear_attn.in_proj_qkv", "attn_qkv")
    torch.testing.assert_close(there[:before], ours[:before])
    torch.testing.assert_close(there[before:], llama.tile_heads(ours[before:], 0, config, size=size))
    there, ours = sums("linear_attn.in_proj_z", "attn_gate")
    torch.testing.assert_close(there, llama.tile_heads(ours, 0, config, size=size))
    there, ours = sums("linear_attn.out_proj", "ssm_out")
    torch.testing.assert_close(there, llama.tile_heads(ours, 1, config, size=size))
    there, ours = sums("mlp.down_proj", "ffn_down")
    torch.testing.assert_close(there, ours)
    assert not torch.equal(llama.tile_heads(ours, 0, {**config, "linear_num_key_heads": 2}, size=16), ours)


def test_a_delta_layer_with_tiled_heads_is_the_same_function(
    family_base: MakeBase, make_adapter: MakeAdapter, llama: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base and adapter merged and tiled, keys repeated tiled instead of one by one: what llama.cpp computes."""
    base = family_base("qwen3_5")
    config, form = read_text_config(base), next(family.gguf for family in FAMILIES if family.name == "qwen3_5")
    factors = read_factors(make_adapter(base), base, read_adapter(make_adapter(base)))
    layer = load_base(base, quantization=Quantization.NONE, device="cpu").model.model.layers[0].linear_attn.float()
    inputs = torch.randn(1, 40, 64, generator=torch.Generator().manual_seed(0))
    size, before = config["linear_value_head_dim"], 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"]
    with torch.no_grad():
        untouched = layer(inputs)
        for name in ("in_proj_qkv", "in_proj_z", "out_proj"):
            layer.get_submodule(name).weight += factors[f"model.layers.0.linear_attn.{name}.weight"].delta(0)
        wanted = layer(inputs)
        for name in ("in_proj_qkv", "in_proj_z", "out_proj"):
            weight = layer.get_submodule(name).weight
            rows, columns = form.rows(name, config), form.columns(name, config)
            weight.copy_(weight[list(rows)] if rows else weight[:, list(columns)])
        for part in (layer.in_proj_a.weight, layer.in_proj_b.weight, layer.A_log, layer.dt_bias):
            part.copy_(llama.tile_heads(part.clone(), 0, config, size=1))
        layer.conv1d.weight[before:] = llama.tile_heads(layer.conv1d.weight[before:].clone(), 0, config, size=size)
        monkeypatch.setattr(torch.Tensor, "repeat_interleave", lambda x, count, dim: torch.cat([x] * count, dim=dim))
        found = layer(inputs)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert (wanted - untouched).abs().max() > 0.01


def test_halves_of_llamas_heads_become_neighbours(
    family_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path, llama: ModuleType
) -> None:
    base = family_base("llama")
    adapter = make_adapter(base)
    export_gguf(adapter, tmp_path / "out", base=base)
    found, factors = written(tmp_path / "out"), read_factors(adapter, base, read_adapter(adapter))
    for name, here, heads in (("q_proj", "attn_q", 4), ("k_proj", "attn_k", 2)):
        ours = factors[f"model.layers.1.self_attn.{name}.weight"].b[0]
        assert torch.equal(found[f"blk.1.{here}.weight.lora_b"], llama.interleave_halves(ours, heads))


@pytest.mark.parametrize("rank_stabilized", [True, False])
def test_alpha_gives_the_scale_of_training_by_llamas_rule(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path, rank_stabilized: bool
) -> None:
    from gguf import GGUFReader

    adapter = make_adapter(tiny_base, rank_stabilized=rank_stabilized)
    export_gguf(adapter, tmp_path / "out", base=tiny_base)
    (path,) = (tmp_path / "out").iterdir()
    fields = {name: field.contents() for name, field in GGUFReader(path).fields.items()}
    manifest = read_adapter(adapter)
    assert fields["adapter.lora.alpha"] / 4 == pytest.approx(8.0 / (math.sqrt(4) if rank_stabilized else 4))
    assert (fields["general.architecture"], fields["general.type"]) == ("qwen35", "adapter")
    assert fields["finetune.adapter.weights_sha256"] == manifest.digests.weights
    assert fields["finetune.adapter.visibility"] == ["a", "b"]
    assert path.name == f"{manifest.adapter_id}.gguf" and path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("family", WRITTEN, ids=lambda family: family.name)
def test_every_target_but_experts_has_a_name_in_llama_cpp(
    family_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path, family
) -> None:
    base = family_base(family.name)
    adapter = make_adapter(base, preset=widest(family))
    export_gguf(adapter, tmp_path / "out", base=base)
    assert len(written(tmp_path / "out")) == 2 * len(read_factors(adapter, base, read_adapter(adapter)))


def test_a_file_that_holds_something_else_is_not_published(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune.adapters import gguf

    write = gguf._write
    monkeypatch.setattr(
        gguf, "_write", lambda path, arrays, *rest, **more: write(path, dict(list(arrays.items())[1:]), *rest, **more)
    )
    with pytest.raises(AdapterError, match="does not hold what was written"):
        export_gguf(make_adapter(tiny_base), tmp_path / "out", base=tiny_base)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["deepseek_v3", "gemma"])
def test_a_family_that_cannot_be_written_is_refused(
    name: str, family_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    base = family_base(name)
    with pytest.raises(AdapterError, match=f"the family {name} cannot be written as GGUF"):
        export_gguf(make_adapter(base), tmp_path / "out", base=base)


def test_experts_a_missing_base_another_base_and_a_taken_place_are_refused(
    family_base: MakeBase, tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="reaches experts.down_proj, experts.gate_up_proj"):
        export_gguf(make_adapter(family_base("mixtral")), tmp_path / "out", base=family_base("mixtral"))
    with pytest.raises(UsageError, match="Give --base"):
        export_as(ExportFormat.GGUF, make_adapter(tiny_base), out=tmp_path / "out")
    with pytest.raises(AdapterError, match="has 2 layers of width 64, the adapter's base 4 of 64"):
        export_gguf(make_adapter(tiny_base), tmp_path / "out", base=family_base("llama"))
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="holds something"):
        export_gguf(make_adapter(tiny_base), tmp_path, base=tiny_base)


@pytest.mark.parametrize("family", WRITTEN, ids=lambda family: family.name)
def test_llama_cpp_scores_as_training_does(
    family, family_base: MakeBase, make_adapter: MakeAdapter, llama: ModuleType, tmp_path: Path
) -> None:
    """In the build of the package xllamacpp, where that is installed; no requirement of this project."""
    pytest.importorskip("xllamacpp")
    folder = family_base(family.name)
    adapter = make_adapter(
        folder, preset=widest(family), quantization=Quantization.NONE, spread=0.1, rank_stabilized=True
    )
    assert probe_difference(read_adapter(adapter).probe) > 0.1
    export_gguf(adapter, tmp_path / "out", base=folder)
    llama.write_base(folder, tmp_path / "base.gguf", family.gguf.architecture)
    ids = torch.randint(0, 256, (48,), generator=torch.Generator().manual_seed(0))
    prompts = [ids[:end].tolist() for end in (4, 20, 48)]
    model = attach_saved(load_base(folder, quantization=Quantization.NONE, device="cpu"), adapter, "tried").float()
    with torch.no_grad():
        wanted = torch.stack([model(input_ids=torch.tensor([row])).logits[0, -1].log_softmax(-1) for row in prompts])
        with model.disable_adapter():
            base = torch.stack([model(input_ids=torch.tensor([row])).logits[0, -1].log_softmax(-1) for row in prompts])
    (path,) = (tmp_path / "out").iterdir()
    found = llama.llama_log_probs(tmp_path / "base.gguf", path, prompts, len(wanted[0]))
    plain = llama.llama_log_probs(tmp_path / "base.gguf", None, prompts, len(wanted[0]))
    assert (plain - base).abs().mean() < 0.001
    assert (found - wanted).abs().mean() < 0.001
    assert (wanted - base).abs().mean() > 0.05


def test_a_request_to_llama_cpp_chooses_its_adapter_and_the_next_is_not_touched(
    tiny_base: Path, make_adapter: MakeAdapter, llama: ModuleType, tmp_path: Path
) -> None:
    """By turns and at once, with the server's prompt cache on, where each names all adapters; see docs/clients.md."""
    pytest.importorskip("xllamacpp")
    llama.write_base(tiny_base, tmp_path / "base.gguf", "qwen35")
    paths: list[Path] = []
    for name, spread in (("one", 0.1), ("two", 0.2)):
        adapter = make_adapter(tiny_base, quantization=Quantization.NONE, spread=spread)
        export_gguf(adapter, tmp_path / name, base=tiny_base)
        paths += (tmp_path / name).iterdir()
    prompt, size = list(range(40)), read_text_config(tiny_base)["vocab_size"]
    alone = [llama.llama_log_probs(tmp_path / "base.gguf", path, [prompt], size)[0] for path in (None, *paths)]
    assert all((one - other).abs().mean() > 0.05 for one, other in combinations(alone, 2))
    server = llama.llama_server(tmp_path / "base.gguf", *paths)

    def ask(choice: int) -> torch.Tensor:
        """0 is the base."""
        scales = [{"id": index, "scale": float(choice == index + 1)} for index in range(len(paths))]
        return llama.server_log_probs(server, prompt, size, lora=scales)

    order = [0, 1, 1, 2, 0, 2, 1, 0]
    with ThreadPoolExecutor(4) as pool:
        for choice, found in zip(order * 2, [*map(ask, order), *pool.map(ask, order)], strict=True):
            torch.testing.assert_close(found, alone[choice], atol=0.01, rtol=0.01)
    # who names none gets the sum, not the base
    together = llama.server_log_probs(server, prompt, size, cache_prompt=False)
    assert all((together - one).abs().mean() > 0.05 for one in alone)
