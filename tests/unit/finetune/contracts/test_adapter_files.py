"""An adapter folder is refused by name for each way in which it can differ from its manifest."""

from pathlib import Path

import pytest

from finetune.contracts.adapter import BaseIdentity
from finetune.contracts.adapter_files import check_base, list_files, read_adapter, write_manifest
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import write_json
from tests.unit.manifests import build_manifest

BASE = BaseIdentity(name="tiny", digest="b" * 64, model_type="qwen3_5_text", num_hidden_layers=4, hidden_size=64)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights" * 100)
    (tmp_path / "adapter_config.json").write_text("{}")
    manifest = build_manifest("tiny-0123", base=BASE, files=list_files(tmp_path))
    write_json(tmp_path / "manifest.json", manifest)
    return tmp_path


def test_a_whole_adapter_is_read(folder):
    assert read_adapter(folder).adapter_id == "tiny-0123"


def test_one_flipped_bit_is_found(folder):
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[50] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(AdapterError, match="adapter_model.safetensors does not have the digest"):
        read_adapter(folder)


def test_any_flipped_bit_of_the_manifest_is_found_or_means_the_same(folder):
    manifest = write_manifest(folder, read_adapter(folder))
    content = (folder / "manifest.json").read_bytes()
    for place in range(0, len(content) * 8, 7):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        (folder / "manifest.json").write_bytes(bytes(damaged))
        try:
            assert read_adapter(folder) == manifest, "an altered manifest was taken"
        except AdapterError as error:
            assert "manifest.json" in error.message


def test_a_configuration_that_names_code_is_refused_though_the_manifest_names_it(folder):
    (folder / "adapter_config.json").write_text('{"auto_mapping": {"parent_library": "os"}}')
    write_json(folder / "manifest.json", build_manifest("tiny-0123", base=BASE, files=list_files(folder)))
    with pytest.raises(AdapterError, match=r"adapter_config\.json: auto_mapping names code"):
        read_adapter(folder)


def test_a_manifest_without_a_seal_is_an_older_one(folder):
    assert read_adapter(folder).seal == ""


def test_a_signature_may_lie_beside(folder):
    (folder / "signature.json").write_text("{}")
    assert list_files(folder) == read_adapter(folder).files


def test_a_truncated_file_is_told_with_both_sizes(folder):
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(AdapterError, match="has 690 bytes, its manifest says 700"):
        read_adapter(folder)


def test_a_missing_and_an_extra_file_are_named(folder):
    (folder / "adapter_config.json").unlink()
    with pytest.raises(AdapterError, match="adapter_config.json is missing"):
        read_adapter(folder)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "notes.md").write_text("new")
    with pytest.raises(AdapterError, match="notes.md is not part of"):
        read_adapter(folder)


def test_a_folder_without_a_manifest_is_told(tmp_path):
    with pytest.raises(AdapterError, match="manifest.json does not exist"):
        read_adapter(tmp_path)


@pytest.mark.parametrize("what", ["base model", "chat template", "tokenizer"])
def test_another_base_template_or_tokenizer_is_refused(folder, what):
    manifest = read_adapter(folder)
    base = BASE.model_copy(update={"digest": "f" * 64}) if what == "base model" else BASE
    with pytest.raises(AdapterError, match=f"the {what} has digest"):
        check_base(
            manifest,
            base,
            chat_template="x" if what == "chat template" else "c",
            tokenizer="x" if what == "tokenizer" else "t",
        )
    check_base(manifest, BASE, chat_template="c", tokenizer="t")
