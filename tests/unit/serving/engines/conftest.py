"""The tiny random base and the adapters on it are those of the end-to-end tests."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

E2E_CONFTEST = Path(__file__).parents[3] / "e2e" / "conftest.py"

CONFIGS = Path(__file__).parents[3] / "assets" / "families"
# hybrid, full attention, latent attention, experts, and one whose layers look back 8 tokens
FAMILIES = ("qwen3_5", "llama", "deepseek_v3", "mixtral", "gemma")


def _e2e_conftest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("e2e_conftest", E2E_CONFTEST)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


E2E = _e2e_conftest()
tiny_base = E2E.tiny_base


@pytest.fixture(scope="session")
def good_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Read-only: an adapter that acts."""
    return E2E.save_adapter(tmp_path_factory.mktemp("adapters") / "good", tiny_base, scale=0.6)


@pytest.fixture(scope="session")
def other_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Read-only: another one."""
    return E2E.save_adapter(tmp_path_factory.mktemp("adapters") / "other", tiny_base, scale=0.6, seed=1)


@pytest.fixture
def change_manifest() -> Callable[..., None]:
    return E2E.change_manifest


@pytest.fixture(scope="session")
def calling_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A token a byte, and the tags of calls as tokens of their own, as published Qwen tokenizers have them."""
    from finetune.model.loading import load_tokenizer

    folder = tmp_path_factory.mktemp("tokenizers")
    unit = E2E._unit_conftest()
    unit.save_byte_tokenizer(folder, [*unit.SPECIAL, "<tool_call>", "</tool_call>"])
    return load_tokenizer(folder)


@pytest.fixture(scope="session", params=FAMILIES)
def family_model(request):
    """Read-only: a tiny random base of each family, in float32."""
    from finetune.model.quiet import quiet_libraries

    with quiet_libraries():
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        config = json.loads((CONFIGS / f"{request.param}.json").read_text())
        if config.get("sliding_window"):
            config["sliding_window"] = 8
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).float().eval()
