"""A merged folder does what base and adapter did, from its files, and holds all else of the base byte for byte."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune.adapters.merge import merge_adapter
from finetune.adapters.merge_check import Judge, verify_merged
from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import AdapterError, MachineError, UsageError
from finetune.contracts.merge import HeldoutSample, MergeForm
from finetune.families.registry import FAMILIES
from finetune.model.loading import LoadedBase, load_base
from finetune.model.lora import attach_saved

pytestmark = pytest.mark.slow
MakeBase = Callable[[str], Path]
MakeAdapter = Callable[..., Path]
SAMPLE = HeldoutSample(dataset="d", num_rows=1, num_bytes=1)
IDS = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(0))
CHANGED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv", "in_proj_z", "out_proj")


def prefer(form: MergeForm) -> Judge:
    """A judge that finds this form better; W16 is asked first."""
    scores = iter((1.0, 2.0) if form is MergeForm.W16 else (2.0, 1.0))
    return Judge(SAMPLE, lambda loaded: next(scores))


def logits(base: Path, quantization: Quantization, adapter: Path | None = None) -> torch.Tensor:
    loaded = load_base(base, quantization=quantization, device="cpu")
    model = attach_saved(loaded, adapter, "tried") if adapter else loaded.model
    with torch.no_grad():
        return model(input_ids=IDS).logits.float()


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: part for path in folder.glob("*.safetensors") for name, part in load_file(path).items()}


@pytest.mark.parametrize("form", MergeForm)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_merges_into_both_forms(
    family_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path, family, form: MergeForm
) -> None:
    """The largest preset, fused experts with it; expected is the adapter attached to the base of that form."""
    base = family_base(family.name)
    adapter = make_adapter(base)
    merged = merge_adapter(adapter, base, out=tmp_path / "out", judge=prefer(form))
    assert merged.kept is form
    quantization = Quantization.NF4 if form is MergeForm.NF4 else Quantization.NONE
    wanted, without = logits(base, quantization, adapter), logits(base, quantization)
    found = logits(tmp_path / "out", Quantization.NONE)
    assert (found - wanted).norm() < 0.05 * (wanted - without).norm()
    assert verify_merged(tmp_path / "out")[0] == merged


def test_what_training_held_in_4_bits_is_exactly_what_is_written(
    family_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    """Experts, which this adapter does not reach, quantised whole although the checkpoint keeps their parts apart."""
    from bitsandbytes.functional import dequantize_4bit

    base = family_base("mixtral")
    merged = merge_adapter(
        make_adapter(base, preset="attention"), base, out=tmp_path / "out", judge=prefer(MergeForm.NF4)
    )
    written = tensors(tmp_path / "out")
    experts = load_base(base, quantization=Quantization.NF4, device="cpu").model.model.layers[1].mlp.experts
    for expert in range(4):
        stem = f"model.layers.1.block_sparse_moe.experts.{expert}"
        fused = torch.cat([written[f"{stem}.w1.weight"], written[f"{stem}.w3.weight"]])
        for name, found in (("gate_up_proj", fused), ("down_proj", written[f"{stem}.w2.weight"])):
            state = getattr(experts, f"{name}_states").state(expert)
            assert torch.equal(found, dequantize_4bit(getattr(experts, name)[expert], state))
    assert merged.num_changed == 2 * (4 + 4 * 3)


@pytest.mark.parametrize("form", MergeForm)
@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_5_moe"])
def test_a_multimodal_checkpoint_keeps_everything_else_byte_for_byte(
    wrapped_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path, name: str, form: MergeForm
) -> None:
    base = wrapped_base(name)
    out = tmp_path / "out"
    merged = merge_adapter(make_adapter(base), base, out=out, judge=prefer(form))
    assert {path.name for path in out.iterdir()} == {path.name for path in base.iterdir()} | {"merge.json"}
    before, after = tensors(base), tensors(out)
    assert before.keys() == after.keys() and len(list(base.glob("*.safetensors"))) > 2
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert len(changed) == merged.num_changed and len(before) - len(changed) == merged.num_kept
    assert all(key.startswith("model.language_model.layers.") for key in changed)
    assert {"mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight"} < before.keys() - changed
    assert any(".experts." in key for key in changed) == (name == "qwen3_5_moe")
    for path in base.iterdir():
        other = out / path.name
        assert path.stat().st_mode == other.stat().st_mode
        if path.suffix != ".safetensors":
            assert path.read_bytes() == other.read_bytes(), path.name
        else:
            size = 8 + int.from_bytes(path.read_bytes()[:8], "little")
            assert path.read_bytes()[:size] == other.read_bytes()[:size], "the header is another"


def test_the_sum_is_made_in_32_bits_and_rounded_once(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    adapter = make_adapter(tiny_base, rank_stabilized=True)
    merge_adapter(adapter, tiny_base, out=tmp_path / "out")
    factors, before, after = (
        load_file(adapter / "adapter_model.safetensors"),
        tensors(tiny_base),
        tensors(tmp_path / "out"),
    )
    name = "model.layers.3.self_attn.q_proj"
    a, b = (factors[f"base_model.model.{name}.lora_{which}.weight"] for which in "AB")
    delta = (b.double() @ a.double()) * 8.0 / 4**0.5
    exact = before[f"{name}.weight"].double() + delta
    agree = (after[f"{name}.weight"] == exact.to(torch.bfloat16)).float().mean()
    assert agree > 0.999, "where the sum is small, that of 32 bits may fall on the other side"


def test_the_better_form_is_kept_with_both_figures(
    tiny_base: Path, make_adapter: MakeAdapter, tiny_dataset: Path, tmp_path: Path
) -> None:
    from finetune.evaluate.judge import heldout_judge
    from finetune.recipe.schema import EvaluateSection

    judge = heldout_judge(tiny_base, tiny_dataset, model_type="qwen3_5_text", section=EvaluateSection(), max_tokens=256)
    merged = merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path / "out", judge=judge)
    bits = {candidate.form: candidate.bits_per_byte for candidate in merged.candidates}
    assert merged.kept is min(bits, key=lambda form: bits[form]) and len(set(bits.values())) == 2
    assert merged.sample == judge.sample and judge.sample.num_rows == 24
    assert all(candidate.check.worst < 0.1 < candidate.check.effect for candidate in merged.candidates)
    loaded = load_base(tmp_path / "out", quantization=Quantization.NONE, device="cpu")
    assert judge.score(loaded) == pytest.approx(bits[merged.kept])


def test_without_a_dataset_the_record_says_that_nothing_was_measured(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    merged = merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path / "out")
    assert (merged.kept, merged.sample, merged.visibility) == (MergeForm.W16, None, ("a", "b"))
    assert merged.reason.startswith("not measured")


def test_an_adapter_of_16_bit_weights_has_one_form(tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_base, quantization=Quantization.NONE)
    merged = merge_adapter(adapter, tiny_base, out=tmp_path / "out", judge=prefer(MergeForm.W16))
    assert [candidate.form for candidate in merged.candidates] == [MergeForm.W16]
    assert "no other form" in merged.reason


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "merge.json"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_merge_is_refused_by_name(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path, name: str, damage: str
) -> None:
    merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path / "out")
    path = tmp_path / "out" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AdapterError, match=name):
        verify_merged(tmp_path / "out")


def test_an_altered_record_of_a_merge_is_refused(tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path / "out")
    path = tmp_path / "out" / "merge.json"
    path.write_text(path.read_text().replace('"kept": "w16"', '"kept": "nf4"'))
    with pytest.raises(AdapterError, match="merge.json does not have the digest that it names itself"):
        verify_merged(tmp_path / "out")


def test_a_merge_that_does_something_else_is_refused(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the sum had been left out."""
    monkeypatch.setattr("finetune.adapters.merged_weights.MergedWeights.merged", lambda *args: None)
    with pytest.raises(AdapterError, match="nat off the adapter on its reference text"):
        merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_merge_without_effect_is_refused(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter so small that leaving its sum out is within the tolerance."""
    monkeypatch.setattr("finetune.adapters.merged_weights.MergedWeights.merged", lambda *args: None)
    with pytest.raises(AdapterError, match="what the adapter adds was lost"):
        merge_adapter(make_adapter(tiny_base, spread=0.001), tiny_base, out=tmp_path / "out")


def test_another_base_and_a_place_that_is_taken_are_refused(
    tiny_base: Path, other_base: Path, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="the base model has digest"):
        merge_adapter(make_adapter(tiny_base), other_base, out=tmp_path / "out")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something"):
        merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path)


def test_too_small_a_disk_is_told_before_anything_is_written(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1000))
    with pytest.raises(MachineError, match=r"needs 0\.1 GB on the disk"):
        merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_leaves_the_comparison_out_or_refuses_it(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.adapters.merge.device_with_room", lambda num_bytes: None)
    with pytest.raises(MachineError, match="its forms cannot be compared here"):
        merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path / "out", judge=prefer(MergeForm.W16))
    merged = merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path / "out")
    assert merged.chosen.check is None
    assert verify_merged(tmp_path / "out") == (merged, None)


def test_weights_in_8_bits_are_refused_by_name(tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import save_file

    base = Path(shutil.copytree(tiny_base, tmp_path / "tiny"))
    state = tensors(base)
    name = "model.layers.3.self_attn.q_proj.weight"
    save_file(
        {**state, name: state[name].to(torch.float8_e4m3fn)}, base / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(Exception, match=f"{name} in .* is stored as F8_E4M3"):
        merge_adapter(adapter_of(make_adapter(tiny_base), base, tmp_path), base, out=tmp_path / "out")


def adapter_of(folder: Path, base: Path, tmp_path: Path) -> Path:
    """The adapter in folder, as if it had been trained over base."""
    import shutil

    from finetune.model.identity import read_identity

    ours = Path(shutil.copytree(folder, tmp_path / "adapter"))
    document = json.loads((ours / "manifest.json").read_text())
    document["base"] = read_identity(base).model_dump()
    (ours / "manifest.json").write_text(json.dumps({**document, "seal": ""}))
    return ours


def test_other_forms_of_the_weights_stay_behind(tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path) -> None:
    import shutil

    base = Path(shutil.copytree(tiny_base, tmp_path / "tiny"))
    (base / "pytorch_model.bin").write_bytes(b"old")
    (base / "original").mkdir()
    (base / "LICENSE").write_text("free")
    merged = merge_adapter(make_adapter(tiny_base), base, out=tmp_path / "out")
    assert merged.left_out == ("original/", "pytorch_model.bin")
    assert (tmp_path / "out" / "LICENSE").read_text() == "free"
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()


def test_the_model_is_loaded_for_the_judge_from_what_was_written(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    seen: list[str] = []

    def score(loaded: LoadedBase) -> float:
        seen.append(Path(loaded.model.name_or_path).name)
        return float(len(seen))

    merge_adapter(make_adapter(tiny_base), tiny_base, out=tmp_path / "out", judge=Judge(SAMPLE, score))
    assert seen == ["w16", "nf4"]


KILLED = """
import os, signal, sys
from pathlib import Path
from finetune.adapters import merge, merged_weights
keep, calls = merged_weights.MergedWeights.merged, []
def merged(self, tensor, form):
    calls.append(tensor.name)
    if len(calls) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return keep(self, tensor, form)
merged_weights.MergedWeights.merged = merged
merge.merge_adapter(Path(sys.argv[1]), Path(sys.argv[2]), out=Path(sys.argv[3]))
"""


def test_killed_midway_nothing_looks_finished(
    tiny_base: Path, make_adapter: MakeAdapter, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import subprocess
    import sys

    adapter, out = make_adapter(tiny_base), tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, adapter, tiny_base, out], check=False, capture_output=True)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.new.")
    assert [path.name for path in left.rglob("*.*")] == ["model.safetensors"]
    merge_adapter(adapter, tiny_base, out=out)
    assert f"{left} is what a merge left that did not end" in capsys.readouterr().err
    verify_merged(out)
