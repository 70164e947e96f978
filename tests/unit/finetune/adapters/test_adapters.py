"""Adapters out of a run: what the folder holds, that damage is named, and how one is found again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from finetune.adapters.export import AdapterOrigin, copy_adapter, export_adapter, probe_difference, write_adapter
from finetune.adapters.verify import find_adapter, list_adapters, verify_adapter
from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.adapter_files import list_files, read_adapter, write_manifest
from finetune.contracts.errors import AdapterError, UsageError
from finetune.contracts.io import digest_file, write_json
from finetune.contracts.run import Home

pytestmark = pytest.mark.slow


@pytest.fixture
def home(trained_home: Home, tmp_path: Path) -> Home:
    return Home(Path(shutil.copytree(trained_home.root, tmp_path / "home")))


@pytest.fixture
def folder(home: Home) -> Path:
    (found,) = home.adapters.iterdir()
    return found


def reseal(folder: Path, **changes: Any) -> None:
    """Rewrite the manifest so that its file digests hold again after a change."""
    manifest = AdapterManifest.model_validate_json((folder / "manifest.json").read_bytes())
    write_manifest(folder, manifest.model_copy(update={"files": list_files(folder), **changes}))


def test_the_folder_says_what_it_is(folder: Path, tiny_base: Path) -> None:
    manifest = read_adapter(folder)
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "bom.cdx.json",
        "manifest.json",
    }
    assert folder.name == manifest.adapter_id == f"tiny-{manifest.digests.weights[:12]}"
    assert manifest.digests.weights == digest_file(folder / "adapter_model.safetensors")
    assert manifest.layer_kinds == ("full_attention", "linear_attention", "mlp")
    assert (manifest.base.name, manifest.rank) == ("tiny", 4)
    assert manifest.family.fim_middle == "<|fim_middle|>"
    assert probe_difference(manifest.probe) > 0
    (run,) = (folder.parents[1] / "runs").iterdir()
    modes = {path.stat().st_mode & 0o777 for place in (folder, run / "adapter") for path in place.iterdir()}
    assert modes == {0o644}


def test_no_path_of_this_machine_leaves(folder: Path, tiny_base: Path, home: Home, tiny_dataset: Path) -> None:
    for path in folder.iterdir():
        content = path.read_bytes()
        for place in (tiny_base.parent, tiny_dataset.parent, home.root, Path.home()):
            assert str(place).encode() + b"/" not in content, path.name


def test_it_verifies_alone_and_over_its_base(folder: Path, tiny_base: Path) -> None:
    assert verify_adapter(folder, None) == verify_adapter(folder, tiny_base) == read_adapter(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_damage_is_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(content[:-2])
        case "flipped":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case _:
            path.unlink()
    with pytest.raises(AdapterError, match=name):
        verify_adapter(folder, None)


def test_a_manifest_that_does_not_fit_the_config_is_refused(folder: Path) -> None:
    reseal(folder, rank=8)
    with pytest.raises(AdapterError, match="does not say the rank, alpha and targets"):
        verify_adapter(folder, None)


def test_other_weights_under_the_same_name_are_refused(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = {name: tensor + 1 for name, tensor in load_file(folder / "adapter_model.safetensors").items()}
    save_file(state, folder / "adapter_model.safetensors")
    reseal(folder)
    with pytest.raises(AdapterError, match="is not the file whose digest the manifest names"):
        verify_adapter(folder, None)


@pytest.mark.parametrize(
    ("change", "message"), [(0.0, "changes nothing|score its reference text"), (float("nan"), "is not finite")]
)
def test_useless_weights_are_refused(folder: Path, tiny_base: Path, change: float, message: str) -> None:
    from safetensors.torch import load_file, save_file

    state = {name: tensor * change for name, tensor in load_file(folder / "adapter_model.safetensors").items()}
    save_file(state, folder / "adapter_model.safetensors")
    manifest = read_json(folder / "manifest.json")
    weights = digest_file(folder / "adapter_model.safetensors")
    manifest["digests"]["weights"] = weights
    manifest["adapter_id"] = f"tiny-{weights[:12]}"
    manifest["probe"]["adapter_log_probs"] = manifest["probe"]["base_log_probs"]
    write_json(folder / "manifest.json", manifest)
    reseal(folder)
    with pytest.raises(AdapterError, match=message):
        verify_adapter(folder, tiny_base)


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_another_base_is_refused(folder: Path, other_base: Path) -> None:
    with pytest.raises(AdapterError, match="the base model has digest"):
        verify_adapter(folder, other_base)


def test_it_is_found_by_id_start_name_run_and_path(home: Home, folder: Path) -> None:
    (run,) = home.runs.iterdir()
    names = (folder.name, folder.name[:-4], "tiny", str(folder))
    assert {find_adapter(home, name) for name in names} == {folder.resolve()}
    assert find_adapter(home, run.name) == find_adapter(home, str(run)) == (run / "adapter").resolve()
    assert [manifest.adapter_id for manifest in list_adapters(home)] == [folder.name]


def test_what_is_not_there_is_named_with_what_is_near(home: Home, folder: Path) -> None:
    with pytest.raises(AdapterError, match=f"Did you mean {folder.name}"):
        find_adapter(home, folder.name[:-2] + "zz")
    with pytest.raises(AdapterError, match="finetune adapter list"):
        find_adapter(Home(home.root / "empty"), "nothing")


def test_an_unfinished_run_says_how_to_go_on(home: Home) -> None:
    (run,) = home.runs.iterdir()
    shutil.rmtree(run / "adapter")
    with pytest.raises(AdapterError, match=f"finetune train --resume {run.name}"):
        find_adapter(home, run.name)


def test_a_damaged_one_does_not_hide_the_others(home: Home, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home.adapters / "broken").mkdir()
    (home.adapters / "broken" / "manifest.json").write_text("{")
    assert len(list_adapters(home)) == 1
    assert "broken" in capsys.readouterr().err


def test_copies_are_whole(home: Home, folder: Path, tmp_path: Path) -> None:
    assert copy_adapter(folder, tmp_path / "out") == read_adapter(tmp_path / "out")
    assert export_adapter(home, "tiny", out=tmp_path / "out").adapter_id == folder.name


def test_a_copy_never_replaces_something_else(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        copy_adapter(folder, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_a_lost_publication_is_exported_again_from_the_run(home: Home, folder: Path) -> None:
    (run,) = home.runs.iterdir()
    shutil.rmtree(folder)
    export_adapter(home, run.name)
    assert read_adapter(folder).adapter_id == folder.name


@pytest.mark.parametrize("what", ["weights", "alpha"])
def test_files_that_do_something_else_are_not_published(
    tiny_base: Path, make_adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """As if the library had written other numbers, or another scale."""
    from finetune.adapters import export

    write, config = export.write_weights, export.adapter_config
    if what == "weights":
        halved = lambda folder, state: write(folder, {name: part / 2 for name, part in state.items()})  # noqa: E731
        monkeypatch.setattr(export, "write_weights", halved)
    else:
        monkeypatch.setattr(export, "adapter_config", lambda model: {**config(model), "lora_alpha": 80.0})
    with pytest.raises(AdapterError, match="nat off the adapter in memory"):
        make_adapter.__wrapped__(tiny_base)


def test_weights_that_are_not_finite_are_not_exported(tiny_base: Path, tmp_path: Path) -> None:
    import torch

    from finetune.contracts.adapter import Quantization
    from finetune.model.loading import load_base
    from finetune.model.lora import attach
    from finetune.recipe.resolve import ResolvedLora

    base = load_base(tiny_base, quantization=Quantization.NF4, device="cpu")
    section = ResolvedLora(rank=2, alpha=4.0, dropout=0.0, rank_stabilized=False, targets=("q_proj",))
    model = attach(base, section)
    torch.nn.init.constant_(next(part for name, part in model.named_parameters() if "lora_B" in name), float("inf"))
    origin = AdapterOrigin(name="tiny", run_id="r", dataset="d", recipe="r")
    with pytest.raises(AdapterError, match="not finite, the first is .*q_proj.lora_B"):
        write_adapter(model, base, section, origin=origin, folder=tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
