"""What is refused before a byte of the weights is used, and where adapters may come from."""

import json
import shutil

import pytest

from finetune.contracts.adapter import AdapterDigests
from finetune.contracts.adapter_files import list_files
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import digest_file
from serving.adapters.store import AdapterStore
from serving.errors import AdapterConflictError, AdapterMissingError, RequestError

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def folder(root):
    return root / "shop-1"


def seal(folder) -> None:
    """Let the manifest name the files as they are now, as somebody who forges one would."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = [entry.model_dump() for entry in list_files(folder)]
    manifest["digests"]["weights"] = digest_file(folder / WEIGHTS)
    path.write_text(json.dumps(manifest))


def test_a_sound_adapter_passes(store, engine, folder):
    assert store.check(folder, engine.description).rank == 8


def test_an_adapter_is_found_by_id_and_by_path(store, folder):
    assert store.find("shop-1") == store.find(str(folder)) == store.find("./shop-1") == folder.resolve()


def test_only_folders_with_a_manifest_are_available(store, root):
    (root / "empty").mkdir()
    (root / ".shop.new.x").mkdir()
    shutil.copy(root / "shop-1" / "manifest.json", root / ".shop.new.x")
    assert store.available() == ["shop-1"]


def test_without_an_adapters_folder_there_is_none(store, root):
    shutil.rmtree(root)
    assert store.available() == []
    with pytest.raises(AdapterMissingError):
        store.find("shop-1")


@pytest.mark.parametrize("reference", ["..", "", ".", "/etc", "../adapters", "shop-1/../../x"])
def test_nothing_outside_the_folder_is_found(store, reference):
    with pytest.raises(RequestError, match="inside the server's adapters folder"):
        store.find(reference)


@pytest.mark.parametrize("spoil", ["truncate", "flip", "extra", "missing", "manifest"])
def test_a_damaged_adapter_is_refused_without_its_folder_s_path(store, engine, folder, spoil):
    weights = folder / WEIGHTS
    content = weights.read_bytes()
    actions = {
        "truncate": lambda: weights.write_bytes(content[:-5]),
        "flip": lambda: weights.write_bytes(content[:-1] + b"\x01"),
        "extra": lambda: (folder / "notes.md").write_text("x"),
        "missing": weights.unlink,
        "manifest": lambda: (folder / "manifest.json").write_text("{"),
    }
    actions[spoil]()
    with pytest.raises(AdapterError) as caught:
        store.check(folder, engine.description)
    assert "shop-1" in caught.value.message and str(folder.parent) not in str(caught.value)


@pytest.mark.parametrize("name", ["training_args.bin", "optimizer.pt", "x.pkl", "x.safetensors.py"])
def test_a_file_that_could_run_code_is_refused(store, engine, folder, name):
    (folder / name).write_bytes(b"x")
    seal(folder)
    with pytest.raises(AdapterError, match="may not lie in an adapter"):
        store.check(folder, engine.description)


def test_a_link_in_an_adapter_is_refused(store, engine, folder, tmp_path):
    shutil.move(folder / WEIGHTS, tmp_path / "w")
    (folder / WEIGHTS).symlink_to(tmp_path / "w")
    with pytest.raises(AdapterError, match="may not lie in an adapter"):
        store.check(folder, engine.description)


@pytest.mark.parametrize(
    "changes",
    [
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q_proj": 64}},
        {"init_lora_weights": "pissa"},
        {"bias": "all"},
        {"peft_type": "IA3"},
        {"r": 4},
        {"lora_alpha": 64.0},
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": "(a+)+$"},
        {"auto_mapping": {"parent_library": "os"}},
    ],
)
def test_a_configuration_that_asks_for_more_is_refused(store, engine, folder, write_config, changes):
    write_config(folder, **{"rank": 8, **changes})
    seal(folder)
    with pytest.raises(AdapterError, match="adapter_config.json"):
        store.check(folder, engine.description)


@pytest.mark.parametrize(
    "header",
    [
        {"base_model.model.lm_head.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}},
        {"base_model.model.layers.0.q_proj.lora_A.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}},
        {"base_model.model.layers.0.k_proj.lora_A.weight": {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, 128]}},
        {"base_model.model.layers.0.q_proj.lora_A.weight": {"dtype": "I64", "shape": [8, 4], "data_offsets": [0, 256]}},
        {"base_model.model.layers.0.q_proj.lora_A.weight": {"dtype": "F32", "shape": "8", "data_offsets": [0, 1]}},
        {"base_model.model.layers.0.q_proj.lora_A.weight": 5},
    ],
)
def test_tensors_that_the_manifest_does_not_announce_are_refused(store, engine, folder, write_weights, header):
    write_weights(folder, header, 256)
    seal(folder)
    with pytest.raises(AdapterError, match=WEIGHTS):
        store.check(folder, engine.description)


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 16, b"\x04" + b"\x00" * 7 + b"null"])
def test_a_file_that_is_no_safetensors_is_refused(store, engine, folder, content):
    (folder / WEIGHTS).write_bytes(content)
    seal(folder)
    with pytest.raises(AdapterError, match=WEIGHTS):
        store.check(folder, engine.description)


def test_a_rank_above_the_limit_is_refused(store, engine, make_adapter, root):
    with pytest.raises(AdapterError, match="rank 32, 16 is the limit here"):
        store.check(make_adapter(root / "big", rank=32), engine.description)


@pytest.mark.parametrize("what", ["chat_template", "tokenizer"])
def test_another_template_or_tokenizer_is_refused(store, engine, make_adapter, root, folder, what):
    digests = store.check(folder, engine.description).digests
    changed = AdapterDigests(**{**digests.model_dump(), what: "0" * 64})
    with pytest.raises(AdapterConflictError, match=what.replace("_", " ")):
        store.check(make_adapter(root / "foreign", digests=changed), engine.description)


def test_another_base_is_refused(store, engine, make_adapter, root):
    other = engine.description.identity.model_copy(update={"digest": "1" * 64})
    with pytest.raises(AdapterConflictError, match="base model"):
        store.check(make_adapter(root / "foreign", base=other), engine.description)


def test_an_adapter_of_too_many_bytes_is_refused_before_it_is_read(engine, root, folder):
    weights = folder / WEIGHTS
    with weights.open("ab") as stream:
        # a hole: reading it would take minutes
        stream.truncate(1 << 40)
    small = AdapterStore(root, max_rank=16, max_bytes=1 << 20)
    with pytest.raises(AdapterError, match="1048576 is the limit here"):
        small.check(folder, engine.description)


def test_a_manifest_that_names_a_file_elsewhere_is_refused(store, engine, folder):
    """It is whole, digest and all, and a copy would write outside its folder."""
    outside = folder.parent / "outside.json"
    outside.write_text("{}")
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"].append({"name": "../outside.json", "bytes": 2, "sha256": digest_file(outside)})
    path.write_text(json.dumps(manifest))
    with pytest.raises(AdapterError, match="is missing from the adapter"):
        store.check(folder, engine.description)
