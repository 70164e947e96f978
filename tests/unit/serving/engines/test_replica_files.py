"""Copies of adapters that vLLM servers read."""

import json

import pytest
from safetensors.torch import load_file

from finetune.contracts.adapter_files import read_manifest
from finetune.contracts.errors import AdapterError
from serving.engines.replica_files import ReplicaFiles, is_multimodal
from serving.errors import AdapterConflictError

NAME = "layers.0.self_attn.q_proj.lora_A.weight"


def test_a_copy_is_named_for_its_content_and_made_once(tmp_path, make_adapter):
    adapter = make_adapter(tmp_path / "red")
    files = ReplicaFiles(tmp_path / "copies", multimodal=False)
    first = files.write(adapter, read_manifest(adapter))
    before = first.stat().st_mtime_ns
    assert files.write(adapter, read_manifest(adapter)) == first and first.stat().st_mtime_ns == before
    assert first.name.startswith(read_manifest(adapter).adapter_id)
    assert {path.name for path in first.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    other = make_adapter(tmp_path / "blue", content=1)
    second = files.write(other, read_manifest(other))
    assert sorted(path.name for path in (tmp_path / "copies").iterdir()) == sorted([first.name, second.name])
    files.remove_all_but([second.name])
    assert [path.name for path in (tmp_path / "copies").iterdir()] == [second.name]


def test_the_multimodal_class_finds_the_tensors_of_the_text_class(tmp_path, make_adapter):
    adapter = make_adapter(tmp_path / "red")
    plain = ReplicaFiles(tmp_path / "text", multimodal=False).write(adapter, read_manifest(adapter))
    renamed = ReplicaFiles(tmp_path / "wrapped", multimodal=True).write(adapter, read_manifest(adapter))
    assert f"base_model.model.model.{NAME}" in load_file(plain / "adapter_model.safetensors")
    assert f"base_model.model.model.language_model.{NAME}" in load_file(renamed / "adapter_model.safetensors")
    assert plain.name != renamed.name


@pytest.mark.parametrize(("lies_on", "lacks"), [("in_proj_qkv", "in_proj_z"), ("in_proj_z", "in_proj_qkv")])
def test_half_of_what_vllm_holds_as_one_is_refused_by_name(tmp_path, make_adapter, lies_on, lacks):
    adapter = make_adapter(tmp_path / "red", targets=("q_proj", lies_on))
    files = ReplicaFiles(tmp_path / "copies", multimodal=False)
    with pytest.raises(AdapterConflictError, match=f"on {lies_on} and not on {lacks}"):
        files.write(adapter, read_manifest(adapter))
    assert not (tmp_path / "copies").exists()


def test_a_refused_copy_leaves_nothing(tmp_path, make_adapter):
    adapter = make_adapter(tmp_path / "red")
    manifest = read_manifest(adapter)
    llama = manifest.model_copy(update={"base": manifest.base.model_copy(update={"model_type": "llama"})})
    with pytest.raises(AdapterError, match="not wrapped"):
        ReplicaFiles(tmp_path / "copies", multimodal=True).write(adapter, llama)
    assert not list((tmp_path / "copies").iterdir())


@pytest.mark.parametrize(("name", "found"), [("Qwen3_5ForConditionalGeneration", True), ("Qwen3_5ForCausalLM", False)])
def test_the_class_is_read_from_the_base(tmp_path, name, found):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [name]}))
    assert is_multimodal(tmp_path) is found
