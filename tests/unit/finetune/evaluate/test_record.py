"""Where an evaluation is put: the run folder, the tracked run, the adapter's manifest and its registered version."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, ADAPTER_SIGNATURE_NAME, AdapterManifest
from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.dataset import DatasetManifest
from finetune.contracts.egress import EGRESS_NAME, EgressReport
from finetune.contracts.errors import EgressError, RunError
from finetune.contracts.evaluation import SuiteName
from finetune.contracts.io import write_json
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.evaluate.record import record_evaluation
from finetune.evaluate.report import Evaluation, evaluate, load_evaluation
from finetune.evaluate.suites import Site
from finetune.evaluate.tracked import tracked_metrics
from finetune.guard.record import JOURNAL_VARIABLE, note_attempt
from finetune.model.loading import LoadedBase
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import resolve
from finetune.recipe.schema import EvaluateSection
from finetune.tracking.base import RunCard, RunStatus
from finetune.tracking.home_store import open_client
from finetune.tracking.runs import list_runs


class SavedAdapter(Protocol):
    """What the fixture adapter is."""

    folder: Path
    manifest: AdapterManifest


class FakeTracker:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.card: RunCard | None = None
        self.resume: str | None = None
        self.values: dict[str, float] = {}
        self.artifacts: list[str] = []
        self.text = ""
        self.tags: dict[str, str] = {}
        self.registered: list[str] = []
        self.status: RunStatus | None = None

    def start(self, card: RunCard, *, resume: str | None = None) -> str:
        self.card, self.resume = card, resume
        return resume or "new"

    def dataset(self, manifest: DatasetManifest, folder: Path) -> None:
        raise AssertionError("the run has its dataset already")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.values |= values

    def artifact(self, path: Path, folder: str = "") -> None:
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        self.artifacts += [f"{folder}/{entry.name}" for entry in found]

    def tag(self, values: Mapping[str, str]) -> None:
        self.tags |= values

    def describe(self, markdown: str) -> None:
        self.text = markdown

    def register(self, manifest: AdapterManifest, folder: Path, name: str) -> None:
        assert manifest.scores
        self.registered.append(name)

    def finish(self, status: RunStatus) -> None:
        self.status = status


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def layout(
    home: Home, tmp_path: Path, tiny_base: Path, tiny_dataset: Path, save_adapter: Callable[..., SavedAdapter]
) -> RunLayout:
    """A finished run, as training leaves it."""
    layout = RunLayout(home.runs / "shop-1")
    recipe = tmp_path / "shop.yaml"
    recipe.write_text(f"name: shop\nbase:\n  path: {tiny_base}\n  quantization: none\n")
    write_json(layout.resolved_recipe, resolve(load_recipe(recipe)))
    saved = save_adapter(layout.adapter)
    save_adapter(home.adapters / saved.manifest.adapter_id)
    state = RunState(
        run_id="shop-1",
        recipe_name="shop",
        base_path=str(tiny_base),
        dataset_path=str(tiny_dataset),
        dataset_digest="d" * 64,
        tracking_run_id="f" * 32,
        status="finished",
        steps_done=7,
        steps_total=7,
        adapter_id=saved.manifest.adapter_id,
    )
    write_json(layout.state, state)
    return layout


@pytest.fixture
def evaluation(loaded: LoadedBase, home: Home, layout: RunLayout, tiny_dataset: Path) -> Evaluation:
    return evaluate(
        loaded,
        layout.adapter,
        tiny_dataset,
        names=(SuiteName.HELDOUT, SuiteName.INFILL),
        section=EvaluateSection(max_rows=12, infill_rows=4, max_new_tokens=32, resamples=100),
        max_tokens=256,
        site=Site(home.measured),
    )


def test_a_report_reaches_every_place(evaluation: Evaluation, home: Home, layout: RunLayout) -> None:
    tracker = FakeTracker()
    report = record_evaluation(evaluation, home, layout, tracker=tracker)
    assert load_evaluation(layout.evaluation).report == report
    for folder in (layout.adapter, home.adapters / report.adapter_id):
        assert read_adapter(folder).scores == report.scores
    assert tracker.resume == "f" * 32
    assert tracker.card is not None and tracker.card.tags["verdict"] == report.verdict
    assert tracker.values == tracked_metrics(report)
    assert tracker.artifacts == [
        "evaluation/answers.parquet",
        "evaluation/egress.json",
        "evaluation/report.html",
        "evaluation/report.json",
        "evaluation/rows.parquet",
        "plots/evaluation.png",
    ]
    assert tracker.tags["evaluation.egress.attempts"] == "0"
    assert tracker.registered == ["shop"]
    assert tracker.text.startswith(f"### {report.verdict.capitalize()}: bits per byte ")
    assert f"--adapter shop={report.adapter_id}" in tracker.text
    assert tracker.status == "finished"


def test_the_manifest_of_a_signed_adapter_stays_as_it_was_signed(
    evaluation: Evaluation, home: Home, layout: RunLayout, capsys: pytest.CaptureFixture[str]
) -> None:
    signed = home.adapters / evaluation.report.adapter_id
    (signed / ADAPTER_SIGNATURE_NAME).write_text("{}")
    before = (signed / ADAPTER_MANIFEST_NAME).read_bytes()
    tracker = FakeTracker()
    report = record_evaluation(evaluation, home, layout, tracker=tracker)
    assert (signed / ADAPTER_MANIFEST_NAME).read_bytes() == before
    assert f"{signed} is signed" in capsys.readouterr().err
    assert read_adapter(layout.adapter).scores == report.scores and tracker.registered == ["shop"]


def test_metric_names_are_grouped_and_name_who(evaluation: Evaluation) -> None:
    names = set(tracked_metrics(evaluation.report))
    assert {
        "eval/bits_per_byte_base",
        "eval/bits_per_byte_adapter",
        "eval_interval/bits_per_byte_difference_low",
    } <= names
    assert "eval/infill_exact_match_adapter" in names
    assert all(name.startswith(("eval/", "eval_interval/", "eval_parts/")) for name in names)


def test_an_adapter_of_another_run_keeps_its_manifest(evaluation: Evaluation, home: Home, layout: RunLayout) -> None:
    before = (layout.adapter / ADAPTER_MANIFEST_NAME).read_bytes()
    tracker = FakeTracker()
    other = evaluation.report.model_copy(update={"adapter_id": "other-1"})
    record_evaluation(replace(evaluation, report=other), home, layout, tracker=tracker)
    assert (layout.adapter / ADAPTER_MANIFEST_NAME).read_bytes() == before
    assert tracker.registered == []


def test_an_attempt_to_leave_fails_an_evaluation_when_all_is_written(
    evaluation: Evaluation, home: Home, layout: RunLayout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(JOURNAL_VARIABLE, str(tmp_path / "journal"))
    tracker = FakeTracker()
    note_attempt("socket.connect", ("192.0.2.1", 443), sys._getframe())
    with pytest.raises(EgressError, match=r"during evaluate, and was refused: .*192\.0\.2\.1:443"):
        record_evaluation(evaluation, home, layout, tracker=tracker)
    assert tracker.tags["evaluation.egress.attempts"] == "1" and tracker.status == "finished"
    assert load_evaluation(layout.evaluation).report.verdict == evaluation.report.verdict
    report = EgressReport.model_validate_json((layout.evaluation / EGRESS_NAME).read_bytes())
    assert [attempt.address for attempt in report.attempts] == ["192.0.2.1:443"]


def test_a_damaged_run_is_refused_before_anything_is_written(
    evaluation: Evaluation, home: Home, layout: RunLayout
) -> None:
    layout.state.write_text("{")
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        record_evaluation(evaluation, home, layout, tracker=FakeTracker())
    assert not layout.evaluation.exists()


@pytest.mark.slow
def test_the_home_store_shows_the_verdict_and_one_model_version(
    evaluation: Evaluation, home: Home, layout: RunLayout
) -> None:
    for _ in range(2):
        record_evaluation(evaluation, home, layout)
    (row,) = list_runs(home)
    assert (row.verdict, row.adapter_id) == (evaluation.report.verdict, evaluation.report.adapter_id)
    assert row.bits_per_byte_base == pytest.approx(evaluation.report.scores[0].base, rel=1e-5)
    client = open_client(home)
    (version,) = client.search_model_versions("name = 'shop'")
    assert "| bits per byte |" in version.description
    assert version.tags["adapter_id"] == evaluation.report.adapter_id
    files = {path.name for path in Path(version.source.removeprefix("file://")).iterdir()}
    assert files == {"adapter_config.json", "adapter_model.safetensors", "bom.cdx.json", "manifest.json"}
