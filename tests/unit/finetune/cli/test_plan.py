"""`finetune plan`: the table of a 27B that was worked out by hand, exit codes, and one JSON document."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from finetune.cli.main import run
from finetune.model import shape
from finetune.model.shape import read_shape

# A shape depends on base and adapter alone, and these tests ask for few of them over and over
CACHED = functools.cache(read_shape)
ROOT = Path(__file__).parents[4]
RECIPE = ROOT / "recipes" / "qwen3_6" / "27b-qlora-24gb.yaml"
BASE = ROOT / "tests" / "assets" / "plan" / "qwen3_6-27b"
# GiB of Qwen3.6-27B in NF4 with an adapter of rank 16 on all maps, from the sizes of its matrices by hand
STATIC = {
    "base, 4-bit": 11.69,
    "embedding": 2.37,
    "head": 2.37,
    "dequantised matrices": 0.33,
    "CUDA context and libraries": 2.80,
}
ADAPTER = ("adapter weights", "adapter gradients", "optimiser states")
PLAIN = ("--set", "base.embedding_on_host=false", "--set", "train.activation_offload=false")


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape, "read_shape", CACHED)


def planned(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["plan", str(RECIPE), "--set", f"base.path={BASE}", "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def items(document: dict[str, Any], phase: str) -> dict[str, float]:
    found = next(found for found in document["phases"] if found["name"] == phase)
    assert found["peak_gib"] == pytest.approx(sum(item["gib"] for item in found["items"]), abs=0.01)
    return {item["name"]: item["gib"] for item in found["items"]}


@pytest.mark.parametrize(
    ("tokens", "checkpoints", "offloaded", "live"),
    [(2048, 1.25, 0.04, 0.86), (4096, 2.50, 0.08, 1.72), (8192, 5.00, 0.16, 3.43), (16384, 10.0, 0.31, 6.86)],
)
def test_the_table_of_a_27b(
    tokens: int, checkpoints: float, offloaded: float, live: float, capsys: pytest.CaptureFixture[str]
) -> None:
    length = ("--card", "24GiB", "--set", f"data.max_tokens={tokens}")
    _, document = planned(*length, *PLAIN, capsys=capsys)
    found = items(document, "longest step")
    for name, gib in STATIC.items():
        assert found[name] == pytest.approx(gib, rel=0.05), name
    assert sum(found[name] for name in ADAPTER) == pytest.approx(1.01, rel=0.05)
    assert found["base, kept in 16 bit"] == pytest.approx(0.06, abs=0.015)
    static = sum(gib for name, gib in found.items() if not name.startswith(("layer checkpoints", "live layer")))
    assert static == pytest.approx(20.63, rel=0.05)
    assert found["layer checkpoints"] == pytest.approx(checkpoints, rel=0.05)
    assert found["live layer in backward, or loss tiles"] == pytest.approx(live, rel=0.05)
    _, document = planned(*length, "--set", "base.embedding_on_host=false", capsys=capsys)
    assert items(document, "longest step")["layer checkpoints"] == pytest.approx(offloaded, abs=0.006)


def test_the_recipe_fits_its_card_and_every_figure_says_calculated(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = planned("--card", "24GiB", capsys=capsys)
    assert (code, document["fits"], document["changes"]) == (0, True, [])
    assert document["peak_gib"] < document["card"]["usable_gib"] == pytest.approx(22.99, abs=0.01)
    marked = [
        document,
        *document["phases"],
        document["time"],
        *(item for p in document["phases"] for item in p["items"]),
    ]
    assert {part["basis"] for part in marked} == {"calculated"}
    assert document["base"]["parameters"] == pytest.approx(26.896e9, rel=0.001)


def test_what_does_not_fit_exits_4_with_changes_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = planned("--card", "24GiB", *PLAIN, "--set", "data.max_tokens=16384", capsys=capsys)
    assert (code, document["fits"]) == (4, False)
    sets = [value for change in document["changes"] for value in change["set"]]
    assert sets[:2] == ["train.activation_offload=true", "base.embedding_on_host=true"]
    words = [word for value in sets for word in ("--set", value)]
    code, after = planned("--card", "24GiB", *PLAIN, "--set", "data.max_tokens=16384", *words, capsys=capsys)
    assert (code, after["fits"]) == (0, True)
    assert after["peak_gib"] == pytest.approx(document["changes"][-1]["peak_gib"], abs=0.01)


def test_text_names_phases_changes_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", str(RECIPE), "--set", f"base.path={BASE / 'config.json'}", "--card", "4090"]
    assert run([*words, *PLAIN]) == 4
    printed = capsys.readouterr()
    assert "Every figure is calculated" in printed.out
    assert f"Type: finetune plan {RECIPE} --card 4090 --set train.activation_offload=true" in printed.out
    assert "tokens/s at 35 to 50 % of the card's peak" in printed.out
    assert "needs 29.2" in printed.err


def test_an_unknown_card_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(RECIPE), "--set", f"base.path={BASE}", "--card", "Voodoo2"]) == 2
    assert "neither a card" in capsys.readouterr().err


def test_a_budget_of_tokens_gives_the_hours_without_a_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    _, document = planned("--card", "4090", "--set", "train.token_budget=2e6", capsys=capsys)
    time = document["time"]
    assert time["num_tokens"] == 2_000_000
    assert time["hours"][0] == pytest.approx(2 * time["hours_per_million_tokens"][0], abs=0.02)
    assert any("the run as of train.token_budget" in note for note in document["notes"])


def test_a_dataset_gives_the_tokens_and_hours_of_the_run(
    tiny_base: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", f"base.path={tiny_base}", "--set", f"data.dataset={tiny_dataset}", "--home", str(tmp_path)]
    capsys.readouterr()
    assert run(["plan", str(RECIPE), *words, "--card", "4090", "--json"]) == 0
    time = json.loads(capsys.readouterr().out)["time"]
    assert time["num_tokens"] > 0
    assert 0 < time["row_tokens"] < 8192
    assert time["hours"][0] >= time["hours"][1] >= 0
