"""Loading a base: what is 4-bit, what is refused, and that every refusal names the file."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import BaseModelError, MachineError
from finetune.families.qwen3_5 import QWEN3_5
from finetune.model.audit import audit_modules
from finetune.model.loading import choose_device, load_base, load_tokenizer, load_weights


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "tiny"))


def test_nf4_keeps_lm_head_and_gates_in_16_bit(tiny_base: Path) -> None:
    base = load_base(tiny_base, quantization=Quantization.NF4, device="cpu")
    audit = audit_modules(base.model, base.family, Quantization.NF4)
    assert {name.rpartition(".")[2] for name in audit.sixteen_bit} == {"lm_head", "in_proj_a", "in_proj_b"}
    assert len(audit.four_bit) == 3 * 3 + 4 + 4 * 3
    assert base.identity.name == "tiny"
    assert not base.model.training


def test_none_is_all_bfloat16(tiny_base: Path) -> None:
    base = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    assert audit_modules(base.model, base.family, Quantization.NONE).four_bit == ()


@pytest.mark.parametrize("lost", ["lm_head", "in_proj_a", "in_proj_b"])
def test_audit_fails_when_the_skip_list_loses_a_name(tiny_base: Path, lost: str) -> None:
    kept = [name for name in QWEN3_5.keep_16bit if name != lost]
    model = load_weights(tiny_base, quantization=Quantization.NF4, device="cpu", keep_16bit=kept)
    with pytest.raises(BaseModelError, match=f"{lost} was loaded in 4-bit; this family needs it in 16-bit"):
        audit_modules(model, QWEN3_5, Quantization.NF4)


def test_audit_fails_when_a_target_stays_16_bit(tiny_base: Path) -> None:
    model = load_weights(
        tiny_base, quantization=Quantization.NF4, device="cpu", keep_16bit=[*QWEN3_5.keep_16bit, "q_proj"]
    )
    with pytest.raises(BaseModelError, match="q_proj was loaded in 16-bit; this family needs it in 4-bit"):
        audit_modules(model, QWEN3_5, Quantization.NF4)


def test_missing_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="nowhere: config.json is missing"):
        load_base(tmp_path / "nowhere", quantization=Quantization.NF4)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BaseModelError, match=name if name != "model.safetensors" else r"no \.safetensors file"):
        load_base(copy, quantization=Quantization.NF4)


def test_cut_weights_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match=r"model\.safetensors is damaged or cut short"):
        load_base(copy, quantization=Quantization.NF4)


def test_a_missing_shard_is_named(copy: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BaseModelError, match=r"model-00002\.safetensors is missing"):
        load_base(copy, quantization=Quantization.NF4)


def test_a_missing_tensor_is_not_filled_with_noise(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    del state["model.layers.2.mlp.up_proj.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"lack 1 tensors, the first is model\.layers\.2\.mlp\.up_proj"):
        load_base(copy, quantization=Quantization.NF4)


def test_a_tokenizer_without_the_sentinels_is_refused(copy: Path) -> None:
    path = copy / "tokenizer.json"
    path.write_text(path.read_text().replace("<|fim_middle|>", "<|other|>"))
    with pytest.raises(BaseModelError, match=r"fim_middle"):
        load_base(copy, quantization=Quantization.NF4)


def test_another_weight_gives_another_identity(copy: Path, tiny_base: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    first = load_base(tiny_base, quantization=Quantization.NONE).identity
    assert load_base(copy, quantization=Quantization.NONE).identity.digest != first.digest


def test_a_gpu_without_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    with pytest.raises(MachineError, match="Tesla T4 has no bfloat16"):
        choose_device("auto")


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match="no CUDA GPU"):
        choose_device("cuda")
    assert choose_device("auto") == "cpu"


def test_a_text_longer_than_the_base_reads_is_encoded_without_a_word(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr("transformers.tokenization_utils_base.logger.warning", lambda *words: told.append(words))
    tokenizer = load_tokenizer(tiny_base)
    tokenizer.model_max_length = 8
    assert len(tokenizer.encode("x " * 20)) > tokenizer.model_max_length
    assert told == []
