"""A tiny random base, and adapters made on it: one that acts, and one for each way in which an adapter can be wrong."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from finetune.contracts.adapter import (
    AdapterManifest,
    Quantization,
)
from finetune.contracts.io import digest_text, read_model, write_json

RANK = 4
ALPHA = 8.0
UNIT_CONFTEST = Path(__file__).parents[1] / "unit" / "finetune" / "conftest.py"


def _unit_conftest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unit_finetune_conftest", UNIT_CONFTEST)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def unit() -> ModuleType:
    """What makes tiny datasets and recipes in the unit tests."""
    return _unit_conftest()


def save_adapter(folder: Path, base_folder: Path, *, scale: float, seed: int = 0, dtype: str | None = None) -> Path:
    """An adapter over the base in base_folder, as an export leaves it; scale 0 makes one that changes nothing.

    It is on all maps that the family has presets for. dtype is that of the base when the probe is recorded;
    None leaves it as it is loaded, which is not one for all of it.
    """
    import torch

    from finetune.adapters.export import AdapterOrigin, write_adapter
    from finetune.model.loading import load_base
    from finetune.model.lora import attach
    from finetune.recipe.resolve import ResolvedLora

    base = load_base(base_folder, quantization=Quantization.NONE, device="cpu")
    if dtype:
        base.model.to(getattr(torch, dtype))
    targets = max(base.family.targets.values(), key=len)
    section = ResolvedLora(rank=RANK, alpha=ALPHA, dropout=0.0, rank_stabilized=False, targets=targets)
    model = attach(base, section, seed=seed)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=scale)
    digests = {"dataset": digest_text("dataset"), "recipe": digest_text("recipe")}
    origin = AdapterOrigin("tiny", run_id="run", **digests, visibility=("internal",))
    write_adapter(model, base, section, origin=origin, folder=folder)
    return folder


def change_manifest(folder: Path, **changes: object) -> None:
    """Replace fields of an adapter's manifest, and seal it again: no damage, but a lie."""
    from finetune.contracts.errors import AdapterError
    from finetune.contracts.seal import sealed

    manifest = read_model(folder / "manifest.json", AdapterManifest, error=AdapterError, hint="")
    write_json(folder / "manifest.json", sealed(manifest.model_copy(update=changes)))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only."""
    return _unit_conftest().save_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """The adapters folder: good, other (another adapter), zero, truncated, wrong_base, liar (a false probe)."""
    root = tmp_path_factory.mktemp("home") / "adapters"
    good = save_adapter(root / "good", tiny_base, scale=0.6)
    save_adapter(root / "other", tiny_base, scale=0.6, seed=1)
    save_adapter(root / "zero", tiny_base, scale=0.0)
    wrong = _unit_conftest().save_tiny_base(tmp_path_factory.mktemp("wrong") / "tiny", seed=1)
    save_adapter(root / "wrong_base", wrong, scale=0.6)
    shutil.copytree(good, root / "truncated")
    weights = root / "truncated" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    shutil.copytree(good, root / "liar")
    _lie(root / "liar")
    return root


def _lie(folder: Path) -> None:
    from finetune.contracts.errors import AdapterError

    manifest = read_model(folder / "manifest.json", AdapterManifest, error=AdapterError, hint="")
    record = tuple(value + 1.0 for value in manifest.probe.adapter_log_probs)
    change_manifest(folder, probe=manifest.probe.model_copy(update={"adapter_log_probs": record}))


@pytest.fixture(scope="session")
def copy_adapter(adapters: Path) -> Callable[[str], Path]:
    """Copy the good adapter under another folder name."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(adapters / "good", adapters / name))

    return copy
