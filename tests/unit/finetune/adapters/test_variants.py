"""The form for engines of the multimodal class: the same function there, and the same adapter to everybody here."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune.adapters.export import probe_difference
from finetune.adapters.variants import export_multimodal
from finetune.adapters.verify import verify_adapter
from finetune.contracts.adapter import AdapterKeys, Quantization
from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.errors import AdapterError, BaseModelError, UsageError
from finetune.model.loading import load_base
from finetune.model.lora import attach_saved
from finetune.model.quiet import quiet_libraries
from finetune.model.wrapper import load_wrapped

pytestmark = pytest.mark.slow
MakeBase = Callable[[str], Path]
MakeAdapter = Callable[..., Path]
IDS = torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(0))
NAMES = pytest.mark.parametrize("name", ["qwen3_5", "qwen3_5_moe"])


@NAMES
def test_the_multimodal_class_changes_as_the_text_class_does(
    wrapped_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path, name: str
) -> None:
    """Attached by PEFT's own loader, which drops what it has no place for without an error."""
    base, adapter = wrapped_base(name), make_adapter(wrapped_base(name), quantization=Quantization.NONE)
    out = tmp_path / "out"
    export_multimodal(adapter, out)
    keys = load_file(out / "adapter_model.safetensors").keys()
    assert all(key.startswith("base_model.model.model.language_model.layers.") for key in keys)
    loaded = load_base(base, quantization=Quantization.NONE, device="cpu")
    wrapped = load_wrapped(base, quantization=Quantization.NONE, device="cpu")
    with torch.no_grad(), quiet_libraries():
        from peft import PeftModel

        before = wrapped(input_ids=IDS).logits
        after = PeftModel.from_pretrained(wrapped, out)(input_ids=IDS).logits
        text = attach_saved(loaded, adapter, "tried")(input_ids=IDS).logits
    assert not torch.allclose(before, after, atol=0.05)
    torch.testing.assert_close(after, text, atol=0.02, rtol=0.02)


@NAMES
def test_it_is_verified_over_its_4_bit_base_in_the_multimodal_class(
    wrapped_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path, name: str
) -> None:
    base, adapter = wrapped_base(name), make_adapter(wrapped_base(name), spread=0.1)
    variant = export_multimodal(adapter, tmp_path / "out", base=base)
    original = read_adapter(adapter)
    assert variant == read_adapter(tmp_path / "out") and variant.keys is AdapterKeys.MULTIMODAL
    assert variant.adapter_id != original.adapter_id and variant.probe == original.probe
    assert probe_difference(variant.probe) > 0.2
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o644}
    assert str(base.parent) not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.json"))


def test_names_of_the_text_class_do_nothing_in_the_multimodal_one_and_are_refused(
    wrapped_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = wrapped_base("qwen3_5")
    monkeypatch.setattr("finetune.adapters.variants.multimodal_state", lambda state, manifest: state)
    with pytest.raises(AdapterError, match="the base has no place for|lacks"):
        export_multimodal(make_adapter(base), tmp_path / "out", base=base)
    assert list(tmp_path.iterdir()) == []


def test_here_it_loads_over_the_text_class_as_before(
    wrapped_base: MakeBase, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    base, adapter = wrapped_base("qwen3_5"), make_adapter(wrapped_base("qwen3_5"))
    export_multimodal(adapter, tmp_path / "out")
    found = []
    for folder in (adapter, tmp_path / "out"):
        loaded = load_base(base, quantization=Quantization.NF4, device="cpu")
        with torch.no_grad():
            found.append(attach_saved(loaded, folder, "tried")(input_ids=IDS).logits)
    assert torch.equal(*found)


def test_a_family_without_a_wrapper_and_a_base_without_one_are_refused(
    family_base: MakeBase, make_adapter: MakeAdapter, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match="the family llama are not wrapped in a multimodal class"):
        export_multimodal(make_adapter(family_base("llama")), tmp_path / "out")
    export_multimodal(make_adapter(tiny_base), tmp_path / "out")
    with pytest.raises(BaseModelError, match="holds no multimodal model around a qwen3_5 text model"):
        verify_adapter(tmp_path / "out", tiny_base)
    with pytest.raises(UsageError, match="holds something else"):
        export_multimodal(make_adapter(tiny_base, spread=0.1), tmp_path / "out")
