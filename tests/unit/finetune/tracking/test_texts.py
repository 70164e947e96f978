"""What a run's record says in words, figures and pictures."""

from pathlib import Path

import pytest

from finetune.contracts.adapter import Score
from finetune.contracts.dataset import CountRow, DatasetManifest, SourceRecord, Split, SplitRecord, Task
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import ResolvedRecipe, resolve
from finetune.tracking import card
from finetune.tracking.figures import training_figures
from finetune.tracking.jsonl import Journal
from finetune.tracking.plots import plot_losses, smooth
from finetune.tracking.summary import TrainingFigures, loss_ends, run_summary, score_rows

SCORE = Score(
    name="bits per byte",
    unit="",
    base=1.5,
    adapter=1.25,
    difference=-0.25,
    low=-0.3,
    high=-0.2,
    num_items=9,
    num_clusters=7,
    verdict="better",
)


@pytest.fixture
def resolved(tmp_path: Path, tiny_base: Path) -> ResolvedRecipe:
    path = tmp_path / "shop.yaml"
    path.write_text(f"name: shop\nbase:\n  path: {tiny_base}\n")
    return resolve(load_recipe(path))


@pytest.fixture
def manifest() -> DatasetManifest:
    return DatasetManifest(
        content_digest="d" * 64,
        builder="test",
        sources=tuple(
            SourceRecord(repo=f"/srv/{name}", ref="main", commit="c" * 40, visibility="x", commits=1, files=1, bytes=1)
            for name in ("a", "b", "c", "d")
        ),
        settings="{}",
        settings_digest="e" * 64,
        split=SplitRecord(method="cluster", cutoff_at=None, train_files=3, heldout_files=1, purged=0),
        shards=(),
        counts=(
            CountRow(task=Task.INFILL, split=Split.TRAIN, language="python", examples=30, loss_bytes=900),
            CountRow(task=Task.INFILL, split=Split.HELDOUT, language="python", examples=8, loss_bytes=200),
        ),
        dropped=(),
        redacted=(),
    )


def test_the_summary_says_what_was_trained_on_what_and_what_came_of_it(
    resolved: ResolvedRecipe, manifest: DatasetManifest
) -> None:
    text = run_summary(
        resolved,
        manifest,
        base_name="tiny",
        run_id="shop-1",
        training=TrainingFigures(
            steps=120,
            seconds=65,
            first_loss=2,
            last_loss=1,
            tokens_per_second=2345,
            peak_memory_bytes=3 << 30,
            utilisation_percent=41.23,
            measured_peak_tflops=142.6,
            data_sheet_peak_tflops=165.0,
            time_error_percent=-3.21,
        ),
        scores=[SCORE],
    )
    first, _, second, *_ = text.splitlines()
    assert first == (
        "### Better: bits per byte 1.500 → 1.250 on held-out code (-0.250, 95 % interval -0.300 to -0.200)"
    )
    assert second == (
        "shop: a LoRA adapter of rank 16 over **tiny**, 30 examples of **a + b + c + 1 more**, 120 steps in 1 min 05 s."
    )
    assert "| dataset | a + b + c + 1 more, digest `dddddddddddd` |" in text
    assert "30 to learn from, 8 held out" in text
    assert "120 steps in 1 min 05 s, loss 2.000 → 1.000, 2,345 tokens/s, 3.00 GiB at the peak" in text
    assert "model FLOP utilisation 41.2 % of 143 TFLOPS, measured at the start" in text
    assert "(data sheet: 165)" in text
    assert "error of the forecast: time -3.2 % (+ is too high)" in text
    assert "| bits per byte | 1.500 | 1.250 | -0.250 (-0.300 to -0.200) | better |" in text
    assert text.rstrip().endswith("finetune evaluate shop-1\n```")


def test_a_run_without_scores_claims_no_verdict(resolved: ResolvedRecipe, manifest: DatasetManifest) -> None:
    text = run_summary(resolved, manifest, base_name="tiny", run_id="shop-1")
    assert "verdict" not in text.lower()
    assert text.startswith("### shop")


def test_a_score_with_a_unit_shows_it() -> None:
    assert "| bits per byte, share |" in score_rows([SCORE.model_copy(update={"unit": "share"})])


def test_every_value_of_the_recipe_is_a_parameter(resolved: ResolvedRecipe) -> None:
    found = card.run_card("shop-1", resolved)
    assert found.parameters["train.learning_rate"] == "0.0001"
    assert found.parameters["lora.targets"].startswith("q_proj, k_proj")
    assert found.parameters["train.max_steps"] == "null"
    assert found.tags["recipe_digest"] == resolved.digest()[:12]
    assert len(found.parameters) == len(resolved.origins)


def test_the_embedded_base_is_called_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text("name: demo\nbase:\n  path: embedded\n")
    resolved = resolve(load_recipe(path))
    assert card.run_card("demo-1", resolved).parameters["base.path"] == "embedded"


def test_the_users_home_folder_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/people/somebody")
    assert card.short_path("/people/somebody/data") == "~/data"
    assert card.short_path("/people/somebodyelse/data") == "/people/somebodyelse/data"


def test_the_environment_names_versions_and_no_host() -> None:
    text = card.environment_text()
    assert "torch: 2.13" in text
    assert card.environment_tags()["environment.gpu"]
    import socket

    assert socket.gethostname() not in text


def test_the_profile_counts_rows_by_split_and_task(manifest: DatasetManifest) -> None:
    profile = card.dataset_profile(manifest)
    assert (profile["train_examples"], profile["heldout infill"], profile["train_loss_bytes"]) == (30, 8, 900)


def test_figures_come_back_from_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "tracking.jsonl"
    assert training_figures(path) is None
    with Journal(path) as journal:
        journal.append("start", {})
        for step, loss in ((5, 3.0), (10, 2.0)):
            values = {"train/loss": loss, "train/tokens_per_second": 100.0 * step, "system/memory_gib": 1.5}
            values["train/model_flop_utilisation_percent"] = 4.0 * step
            journal.append("metrics", {"step": step, "values": values})
        journal.append("metrics", {"step": 10, "values": {"eval/loss": 9.0}})
        ends = {"system/measured_peak_tflops": 0.2, "system/forecast_time_error_percent": 7.0}
        journal.append("metrics", {"step": 10, "values": ends})
    found = training_figures(path)
    assert found is not None
    assert (found.steps, found.first_loss, found.last_loss) == (10, 3.0, 2.0)
    assert (found.tokens_per_second, found.peak_memory_bytes) == (750.0, 3 << 29)
    assert (found.utilisation_percent, found.measured_peak_tflops) == (30.0, 0.2)
    assert (found.time_error_percent, found.memory_error_percent, found.data_sheet_peak_tflops) == (7.0, None, None)
    assert 0 <= found.seconds < 60


def test_the_loss_is_drawn_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    assert not plot_losses([("eval/loss", 0, 1.0)], path)
    assert not path.exists()
    points = [("train/loss", step, 3.0 / (step + 1)) for step in range(9)] + [("eval/loss", 0, 3.0)]
    assert plot_losses(points, path, title="shop")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_smoothing_keeps_a_constant_and_starts_at_the_first_value() -> None:
    assert smooth([2.0] * 5) == pytest.approx([2.0] * 5)
    assert smooth([4.0, 0.0])[0] == pytest.approx(4.0)


def test_the_ends_of_the_loss_are_means_of_quarters_and_not_single_steps() -> None:
    assert loss_ends([5.0, 3.0, 9.0, 9.0, 9.0, 9.0, 1.0, 4.0]) == (4.0, 2.5)
    assert loss_ends([2.0, 1.0]) == (2.0, 1.0)
    assert loss_ends([2.0]) == (2.0, 2.0)


def test_a_table_has_no_row_of_a_part_that_it_could_not_name() -> None:
    part = SCORE.model_copy(update={"part": "go", "by": "language"})
    assert score_rows([SCORE, part]) == score_rows([SCORE])
