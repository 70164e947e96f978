"""Adapters, reports and a registry as small as the contracts allow, in a home with a real MLflow store."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.adapter import (
    ADAPTER_WEIGHTS_NAME,
    AdapterManifest,
    Quantization,
    Score,
)
from finetune.contracts.adapter_files import list_files, write_manifest
from finetune.contracts.chain import record_evaluation
from finetune.contracts.evaluation import EngineRecord, EvaluationReport, Finding, PairedRow, SuiteName, SuiteReport
from finetune.contracts.io import digest_file
from finetune.contracts.run import Home, RunLayout
from finetune.evaluate.report import Evaluation, save_evaluation
from finetune.release.promote import chain_of
from finetune.tracking.home_store import open_client
from tests.unit.bare_adapters import save_config
from tests.unit.manifests import BASE, build_manifest

MODEL = "shop"


def save_adapter(home: Home, value: float) -> AdapterManifest:
    import torch
    from safetensors.torch import save_file

    folder = home.adapters / "new"
    folder.mkdir(parents=True)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    save_file({name: torch.full((2, 2), value)}, folder / ADAPTER_WEIGHTS_NAME)
    save_config(folder, rank=2, lora_alpha=4.0)
    weights = digest_file(folder / ADAPTER_WEIGHTS_NAME)
    manifest = write_manifest(
        folder,
        build_manifest(
            f"shop-{weights[:12]}",
            run_id=f"run-{value:g}",
            created_at=1,
            digests={"weights": weights},
            files=list_files(folder),
        ),
    )
    folder.rename(home.adapters / manifest.adapter_id)
    return manifest


def register(home: Home, manifest: AdapterManifest) -> str:
    client = open_client(home)
    if not client.search_registered_models(f"name = '{MODEL}'"):
        client.create_registered_model(MODEL)
    tags = {"adapter_id": manifest.adapter_id, "weights_digest": manifest.digests.weights[:12]}
    return str(client.create_model_version(MODEL, source=home.adapters.as_uri(), tags=tags).version)


def recompute(report: EvaluationReport, rows: Sequence[PairedRow]) -> tuple[Score, ...]:
    """The figure of these tests: a mean."""
    (score,) = report.scores
    base, adapter = (sum(side) / len(rows) for side in ([row.base for row in rows], [row.adapter for row in rows]))
    return (score.model_copy(update={"base": base, "adapter": adapter, "difference": adapter - base}),)


def build_report(manifest: AdapterManifest, **changes: Any) -> EvaluationReport:
    score = Score(
        name="exact match", unit="", base=0.0, adapter=1.0, difference=1.0, low=0.5, high=1.0,
        num_items=100, num_clusters=20, verdict="better",
    )  # fmt: skip
    canary = Finding(name="random canaries", value=0, low=0, high=1, num_items=0, text="none were planted")
    report = EvaluationReport(
        adapter_id=manifest.adapter_id,
        adapter_digest=manifest.digests.weights,
        run_id=manifest.run_id,
        base=BASE,
        dataset_digest="d",
        created_at=4_000_000_000,
        settings="{}",
        max_tokens=8,
        seed=0,
        engine=EngineRecord(name="e", quantization=Quantization.NONE, device="cpu", dtype="f", served=False),
        suites=(
            SuiteReport(suite=SuiteName.HELDOUT, scores=(score,)),
            SuiteReport(suite=SuiteName.RETENTION),
            SuiteReport(suite=SuiteName.LEAKAGE, findings=(canary,)),
        ),
    )
    return report.model_copy(update=changes)


def save_report(home: Home, report: EvaluationReport) -> Path:
    folder = RunLayout(home.runs / report.run_id).evaluation
    rows = tuple(
        PairedRow(suite=SuiteName.HELDOUT, metric="exact match", task_id=str(n), base=0, adapter=1) for n in range(4)
    )
    save_evaluation(Evaluation(report, rows, ()), folder)
    return folder


def evaluated(home: Home, value: float, **changes: Any) -> AdapterManifest:
    """An adapter that is registered, with a report that is recorded."""
    manifest = save_adapter(home, value)
    register(home, manifest)
    report = build_report(manifest, **changes)
    folder = save_report(home, report)
    record_evaluation(chain_of(home), report, digest=digest_file(folder / "report.json"))
    return manifest


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def make_evaluated(home: Home) -> Callable[..., AdapterManifest]:
    return lambda value, **changes: evaluated(home, value, **changes)
