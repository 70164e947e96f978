"""A base comes into the home as data alone, whole, with its licence, and is found by its name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.contracts.bases import find_base, list_bases
from finetune.contracts.errors import BaseModelError, UsageError
from finetune.contracts.run import Home
from finetune.model import base_import
from finetune.model.base_import import add_base, verify_base
from finetune.model.identity import read_identity
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import resolve


@pytest.fixture
def source(family_base, tmp_path) -> Path:
    """A base as it was downloaded, by a README that says the licence."""
    folder = tmp_path / "Tiny-Coder"
    shutil.copytree(family_base("qwen3_5"), folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [code]\n---\n# Tiny\n")
    (folder / "picture.png").write_text("left out")
    return folder


@pytest.fixture
def bases(tmp_path) -> Path:
    return Home(tmp_path / "home").bases


def edit(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_base_is_copied_read_only_under_its_name_and_digest(source, bases):
    record = add_base(source, bases)
    folder = bases / f"tiny-coder-{record.digest[:12]}"
    assert find_base(bases, "Tiny-Coder") == find_base(bases, folder.name) == folder
    assert [found for _, found in list_bases(bases)] == [record] == [verify_base(folder)]
    assert (record.licence, record.licence_from, record.family) == ("apache-2.0", "README.md", "qwen3_5")
    assert read_identity(folder) == record.identity and record.identity.digest == read_identity(source).digest
    assert not (folder / "picture.png").exists()
    assert all(path.stat().st_mode & 0o222 == 0 for path in folder.iterdir())
    assert add_base(source, bases) == record
    assert [path.name for path in bases.iterdir() if not path.name.endswith(".lock")] == [folder.name]


def test_a_recipe_names_a_base_of_the_home(source, bases, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\nbase: {path: tiny-coder}\n")
    with pytest.raises(BaseModelError, match="finetune base list"):
        resolve(load_recipe(recipe), bases=bases)
    record = add_base(source, bases)
    assert resolve(load_recipe(recipe), bases=bases).base.path == str(bases / record.folder_name)


UNSAFE = {
    "pickled weights": ("pytorch_model.bin", "pickle"),
    "a pickle below": ("original/consolidated.00.pth", "pickle"),
    "code": ("modeling_own.py", "is code"),
    "a library": ("kernels/fast.so", "is code"),
}


@pytest.mark.parametrize(("name", "message"), UNSAFE.values(), ids=UNSAFE)
def test_what_could_run_is_refused(source, bases, name, message):
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_text("x")
    with pytest.raises(BaseModelError, match=message):
        add_base(source, bases)
    assert not bases.exists()


def test_links_and_pipes_are_refused(source, bases):
    (source / "NOTICE").symlink_to("/etc/hostname")
    with pytest.raises(BaseModelError, match="is a link"):
        add_base(source, bases)
    (source / "NOTICE").unlink()
    os.mkfifo(source / "model-00002.safetensors")
    with pytest.raises(BaseModelError, match="no plain file"):
        add_base(source, bases)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_configuration_that_names_code_is_refused(source, bases, name):
    edit(source / name, lambda document: document.update(text={"deep": [{"auto_map": {"AutoModel": "own.Model"}}]}))
    with pytest.raises(BaseModelError, match="auto_map"):
        add_base(source, bases)


@pytest.mark.parametrize("shard", ["../../other.safetensors", "/etc/passwd", "model.bin", 7, None])
def test_an_index_that_leads_elsewhere_is_refused(source, bases, shard):
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(BaseModelError, match="no .safetensors file beside it"):
        add_base(source, bases)


def test_a_shard_that_is_missing_or_cut_short_is_told(source, bases):
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))
    with pytest.raises(BaseModelError, match=r"model-2.safetensors is missing"):
        add_base(source, bases)
    index.unlink()
    os.truncate(source / "model.safetensors", 1000)
    with pytest.raises(BaseModelError, match="cut short"):
        add_base(source, bases)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: edit(folder / "config.json", lambda found: found.update(model_type="own")), "'own' is not sup"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "is damaged"),
        (lambda folder: (folder / "config.json").write_text(" " * (5 << 20)), "larger than any"),
        (shutil.rmtree, "no folder"),
    ],
)
def test_what_is_no_base_is_told(source, bases, change, message):
    change(source)
    with pytest.raises(BaseModelError, match=message):
        add_base(source, bases, licence="mit")
    assert not bases.exists()


def test_the_licence_must_be_known(source, bases):
    (source / "README.md").write_text("# Tiny\n")
    with pytest.raises(UsageError, match="under which licence"):
        add_base(source, bases)
    (source / "LICENSE").write_text("Terms\n")
    assert add_base(source, bases, name="one").licence == "see LICENSE"
    assert add_base(source, bases, name="two", licence="mit").licence_from == "--licence"


@pytest.mark.parametrize("name", ["Big", "a/b", "..", "", "x" * 65])
def test_a_name_is_one_part_of_a_path(source, bases, name):
    with pytest.raises(UsageError, match="cannot be the name"):
        add_base(source, bases, name=name)


def test_another_base_of_the_same_name_is_refused(source, bases):
    add_base(source, bases)
    edit(source / "config.json", lambda document: document.update(note="other"))
    with pytest.raises(UsageError, match="another base called tiny-coder"):
        add_base(source, bases)


ALTERED = {
    "a flipped bit": lambda folder: _flip(folder / "model.safetensors"),
    "a missing file": lambda folder: (folder / "tokenizer.json").unlink(),
    "an extra file": lambda folder: (folder / "extra.json").write_text("{}"),
}


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
def test_a_base_that_was_altered_is_told(source, bases, change):
    folder = bases / add_base(source, bases).folder_name
    change(folder)
    with pytest.raises(BaseModelError, match=r"was altered|is missing|does not belong"):
        verify_base(folder)


def test_altered_weights_are_refused_whenever_they_are_loaded(source, bases):
    folder = bases / add_base(source, bases).folder_name
    _flip(folder / "model.safetensors")
    with pytest.raises(BaseModelError, match="altered since it was brought in"):
        read_identity(folder)


def test_a_copy_that_was_stopped_goes_on(source, bases, monkeypatch):
    copied: list[str] = []
    whole = base_import._copy

    def stopped(path: Path, target: Path, **rest: object) -> str:
        if path.name == "tokenizer.json":
            raise KeyboardInterrupt
        copied.append(path.name)
        return whole(path, target, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(base_import, "_copy", stopped)
    with pytest.raises(KeyboardInterrupt):
        add_base(source, bases)
    assert find_base(bases, "tiny-coder") is None and list(list_bases(bases)) == []
    partial = bases / ".tiny-coder.partial"
    before = (partial / "model.safetensors").stat().st_ino
    (partial / "tokenizer.json.part").write_text("torn")
    monkeypatch.setattr(base_import, "_copy", whole)
    record = add_base(source, bases)
    folder = bases / record.folder_name
    assert "model.safetensors" in copied and (folder / "model.safetensors").stat().st_ino == before
    assert verify_base(folder) == record and not partial.exists()
