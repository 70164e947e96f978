"""The 4-bit copy of a base: the same model bit for bit, used only when whole, and never in the way of a run."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import MachineError
from finetune.contracts.io import sole_writer
from finetune.families.registry import FAMILIES
from finetune.model import base_copy, copy_store, known_base, loading
from finetune.model.base_copy import BaseCopies
from finetune.model.copy_store import MANIFEST_NAME
from finetune.model.loading import LoadedBase, load_base
from finetune.model.quiet import quiet_libraries

MakeBase = Callable[[str], Path]
IDS = torch.randint(0, 200, (1, 24), generator=torch.Generator().manual_seed(0))

DIES_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from finetune.contracts.adapter import Quantization
from finetune.model import base_copy, copy_store
from finetune.model.loading import load_base

base_copy.LEAST_BYTES = 0
copy_store.write_json = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
copies = base_copy.BaseCopies(Path(sys.argv[2]))
load_base(Path(sys.argv[1]), quantization=Quantization.NF4, device="cpu", copies=copies)
"""


@pytest.fixture(autouse=True)
def small_bases_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_copy, "LEAST_BYTES", 0)


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    return tmp_path / "bases"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What weights are read from, in order: "base" or "copy"."""
    seen: list[str] = []
    read = loading.load_weights

    def told(path: Path, *, copied: bool = False, **options: Any) -> Any:
        seen.append("copy" if copied else "base")
        return read(path, copied=copied, **options)

    monkeypatch.setattr(loading, "load_weights", told)
    return seen


def load(folder: Path, copies: Path | None, quantization: Quantization = Quantization.NF4) -> LoadedBase:
    return load_base(folder, quantization=quantization, device="cpu", copies=BaseCopies(copies) if copies else None)


def copy_folder(copies: Path) -> Path:
    (folder,) = (path for path in copies.iterdir() if path.is_dir() and path.name != "known")
    return folder


def logits(base: LoadedBase) -> torch.Tensor:
    with torch.no_grad():
        return base.model(IDS).logits


def assert_same(one: LoadedBase, two: LoadedBase) -> None:
    first, second = one.model.state_dict(), two.model.state_dict()
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.dtype is second[name].dtype
        assert torch.equal(tensor, second[name]), name
    assert torch.equal(logits(one), logits(two))
    assert one.identity == two.identity
    assert one.model.config.to_dict() == two.model.config.to_dict()
    assert one.model.generation_config == two.model.generation_config


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_a_copy_gives_the_model_that_quantising_gives(
    family_base: MakeBase, copies: Path, reads: list[str], name: str
) -> None:
    fresh = load(family_base(name), None)
    load(family_base(name), copies)
    assert_same(fresh, load(family_base(name), copies))
    assert reads == ["base", "base", "copy"]


@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_5_moe"])
def test_a_multimodal_base_has_a_copy_of_its_text_part(
    family_base: MakeBase, copies: Path, reads: list[str], tmp_path: Path, name: str
) -> None:
    base = Path(shutil.copytree(family_base(name), tmp_path / "whole"))
    text = json.loads((base / "config.json").read_text())
    with quiet_libraries():
        from transformers import AutoConfig, AutoModelForImageTextToText

        vision = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 64}
        config = AutoConfig.for_model(name, text_config=text, vision_config=vision)
        AutoModelForImageTextToText.from_config(config).to(torch.bfloat16).save_pretrained(base)
    fresh = load(base, None)
    load(base, copies)
    assert_same(fresh, load(base, copies))
    assert fresh.identity.model_type == name
    assert reads == ["base", "base", "copy"]
    weights = base_copy._weight_bytes(copy_folder(copies))
    assert weights < 0.9 * base_copy._weight_bytes(base)


def test_a_copy_that_cannot_be_read_is_not_used(
    tiny_base: Path, copies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(tiny_base, copies)

    def refused(folder: Path, manifest: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(copy_store, "_check_files", refused)
    load(tiny_base, copies)
    assert "Permission denied" in capsys.readouterr().err


def test_a_small_or_16_bit_base_has_no_copy(tiny_base: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tiny_base, copies, Quantization.NONE)
    monkeypatch.setattr(base_copy, "LEAST_BYTES", 10**9)
    load(tiny_base, copies)
    assert not copies.exists()


def test_the_base_is_not_read_again_while_it_looks_the_same(
    tiny_base: Path, copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Path(shutil.copytree(tiny_base, tmp_path / "ours"))
    digested: list[Path] = []
    read = base_copy.read_identity
    monkeypatch.setattr(base_copy, "read_identity", lambda folder: digested.append(folder) or read(folder))
    first, second = load(ours, copies), load(ours, copies)
    assert (len(digested), first.identity) == (1, second.identity)
    weights = ours / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert load(ours, copies).identity.digest != first.identity.digest
    assert len(digested) == 2


def test_a_base_at_another_place_has_the_same_copy(
    tiny_base: Path, copies: Path, tmp_path: Path, reads: list[str]
) -> None:
    load(tiny_base, copies)
    load(Path(shutil.copytree(tiny_base, tmp_path / "elsewhere")), copies)
    assert reads == ["base", "copy"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


FILES = ("config.json", "generation_config.json", "model.safetensors", MANIFEST_NAME)


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_copy_is_named_not_used_and_made_anew(
    tiny_base: Path,
    copies: Path,
    reads: list[str],
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
) -> None:
    fresh = load(tiny_base, copies)
    folder = copy_folder(copies)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    damage(folder / name)
    capsys.readouterr()
    assert_same(fresh, load(tiny_base, copies))
    told = capsys.readouterr().err
    assert f"{folder / name}" in told
    assert "The base itself is read instead." in told
    load(tiny_base, copies)
    assert reads == ["base", "base", "copy"]


def test_a_file_that_does_not_belong_there_is_not_read(tiny_base: Path, copies: Path, reads: list[str]) -> None:
    load(tiny_base, copies)
    shutil.copy(copy_folder(copies) / "model.safetensors", copy_folder(copies) / "model-00002.safetensors")
    load(tiny_base, copies)
    assert reads == ["base", "base"]


def test_a_base_that_rotted_unseen_is_seen_when_it_is_read(
    tiny_base: Path, copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Path(shutil.copytree(tiny_base, tmp_path / "ours"))
    first = load(ours, copies)
    before = known_base._stamps(ours)
    monkeypatch.setattr(known_base, "_stamps", lambda base: before)
    flip(ours / "model.safetensors")
    assert load(ours, copies).identity == first.identity
    flip(copy_folder(copies) / "model.safetensors")
    assert load(ours, copies).identity.digest != first.identity.digest


def test_other_versions_make_another_copy_and_name_the_old_one(
    tiny_base: Path, copies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(tiny_base, copies)
    old = copy_folder(copies)
    monkeypatch.setattr(copy_store, "version", lambda name: "0.0.1")
    load(tiny_base, copies)
    assert f"{old}, 0.0 GB, is a copy by other settings" in capsys.readouterr().err
    assert len([path for path in copies.iterdir() if path.is_dir()]) == 3


def test_a_full_disk_costs_the_copy_alone(
    tiny_base: Path, copies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1000, 900, 100))
    assert logits(load(tiny_base, copies)).isfinite().all()
    assert "No 4-bit copy of the base was written: it takes 0.0 GB, 4.3 more must stay free" in capsys.readouterr().err
    assert not list(copies.glob("*-*/"))


@pytest.mark.parametrize("error", [OSError(5, "disk broke"), OSError(28, "No space left on device")])
def test_a_disk_that_breaks_costs_the_copy_alone(
    tiny_base: Path, copies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError
) -> None:
    def broken(*args: object, **options: object) -> str:
        raise error

    monkeypatch.setattr(copy_store, "digest_file", broken)
    load(tiny_base, copies)
    assert "No 4-bit copy of the base was written" in capsys.readouterr().err
    assert not list(copies.glob("*-*/")) and not list(copies.glob(".*"))


def test_one_process_writes(tiny_base: Path, copies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(tiny_base, copies)
    folder = copy_folder(copies)
    shutil.rmtree(folder)
    with sole_writer(copies / f"{folder.name}.lock", MachineError("busy", "")):
        load(tiny_base, copies)
    assert f"another process writes {folder}" in capsys.readouterr().err
    assert not folder.exists()


def test_killed_while_writing_leaves_nothing_that_is_read(tiny_base: Path, copies: Path, reads: list[str]) -> None:
    # a process of its own: OpenMP's threads do not live through a fork
    done = subprocess.run([sys.executable, "-c", DIES_WHILE_WRITING, tiny_base, copies], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(copies.glob(".*.new.*"))) == 1
    load(tiny_base, copies)
    load(tiny_base, copies)
    assert reads == ["base", "copy"]
    assert not list(copies.glob(".*.new.*"))
