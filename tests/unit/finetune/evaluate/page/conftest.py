"""Reports that fill every field, made on the spot: what evaluations come to, and hostile text on demand."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from finetune.contracts.adapter import BaseIdentity, FileDigest, Quantization, Score
from finetune.contracts.dataset import ReasonCount
from finetune.contracts.evaluation import (
    Answer,
    EngineRecord,
    EvaluationReport,
    Finding,
    PairedRow,
    SuiteCost,
    SuiteName,
    SuiteReport,
)
from finetune.evaluate.metric import Metric
from finetune.evaluate.report import Evaluation
from finetune.evaluate.scores import scores_of

BITS = Metric(SuiteName.HELDOUT, "bits per byte", "", "lower is better", "ratio", primary=True)
EXACT = Metric(SuiteName.INFILL, "infill exact match", "share", "higher is better", "pass or fail")
SIMILARITY = Metric(SuiteName.INFILL, "infill edit similarity", "0 to 1", "higher is better", "mean")
PASSED = Metric(SuiteName.EXECUTED, "executed pass@1", "share", "higher is better", "pass or fail")
KEPT = Metric(SuiteName.RETENTION, "retention solved", "share", "higher is better", "pass or fail", margin=0.05)
ALONE = Metric(SuiteName.CONTROL, "control bits per byte", "", "lower is better", "ratio")
METRICS = (BITS, EXACT, SIMILARITY, PASSED, KEPT, ALONE)
WANTED = "    total = price * quantity\n    if total > limit:\n        raise TooMuch(order.id)\n    return total\n"
NEAR = "    total = price * amount\n    if total > limit:\n        raise ValueError(total)\n    return total\n"
FAR = "    return sum(self.items)\n"


def evaluation_of(
    names: Sequence[SuiteName] = tuple(SuiteName), *, gain: float = 0.12, repos: int = 3, leaks: bool = False
) -> Evaluation:
    """An evaluation whose adapter is better by gain, in bits per byte and in shares alike."""
    rows = tuple(row for name in names for row in _rows(name, gain, repos))
    metrics = [metric for metric in METRICS if metric.suite in names]
    scores = [*scores_of(rows, metrics, resamples=200, seed=0), *_parts(rows)]
    suites = tuple(_suite(name, scores, rows, leaks) for name in names)
    seen: dict[tuple[SuiteName, str], PairedRow] = {(row.suite, row.task_id): row for row in rows}
    answers = tuple(_answer(row) for row in seen.values() if row.suite is not SuiteName.HELDOUT)
    return Evaluation(report_of(suites), rows, answers)


def report_of(suites: tuple[SuiteReport, ...], **changes: Any) -> EvaluationReport:
    """A report of these suites."""
    fields: dict[str, Any] = {
        "adapter_id": "shop-1f0c9a2b3d4e",
        "adapter_digest": "1f0c9a2b3d4e" + "0" * 52,
        "run_id": "shop-20260102-101500-3f2a",
        "base": BaseIdentity(name="Base-4B", digest="b" * 64, model_type="tiny", num_hidden_layers=2, hidden_size=8),
        "dataset_digest": "d" * 64,
        "created_at": 1_767_348_000,
        "settings": '{"max_rows": 400, "resamples": 2000, "seed": 0}',
        "max_tokens": 4096,
        "seed": 0,
        "engine": EngineRecord(
            name="transformers, in the process of the evaluation",
            quantization=Quantization.NF4,
            device="cuda",
            dtype="bfloat16",
            served=False,
            note="Requests did not go through the endpoint.",
        ),
        "suites": suites,
        "files": (FileDigest(name="rows.parquet", bytes=12_345, sha256="e" * 64),),
    }
    return EvaluationReport(**fields | changes)


def _parts(rows: Sequence[PairedRow]) -> list[Score]:
    """Bits per byte by repository and slice."""
    found = []
    for by in ("repo", "slice"):
        for value in sorted({getattr(row, by) for row in rows if row.suite is SuiteName.HELDOUT}):
            own = [row for row in rows if getattr(row, by) == value]
            (score,) = scores_of(own, [BITS], resamples=200, seed=0)
            found.append(score.model_copy(update={"part": value, "by": by, "p_value": 0.01, "adjusted_p_value": 0.04}))
    return found


def _rows(name: SuiteName, gain: float, repos: int) -> list[PairedRow]:
    draw = random.Random(str(name))
    rows = []
    for metric in METRICS:
        for number in range(120 if metric.suite is name else 0):
            size = float(draw.randint(80, 900)) if metric.kind == "ratio" else 1.0
            base, adapter = _values(metric, gain, draw, size)
            rows.append(
                PairedRow(
                    suite=name,
                    metric=metric.name,
                    task_id=f"{name}-{number:04d}",
                    repo=f"team/service-{number // 3 % repos}",
                    path=f"src/orders/module_{number // 3}.py",
                    cluster=f"c{number // 3}",
                    language=("python", "go")[number % 2],
                    group=("block", "line")[number % 2],
                    slice=("novel", "evolving")[number // 3 % 2],
                    base=base,
                    adapter=adapter,
                    size=size,
                )
            )
    return rows


def _values(metric: Metric, gain: float, draw: random.Random, size: float) -> tuple[float, float]:
    if metric.kind == "ratio":
        base = draw.gauss(1.1, 0.25)
        return size * base, size * max(0.1, base - draw.gauss(gain, 0.12))
    if metric.kind == "mean":
        base = draw.random()
        return base, min(1.0, max(0.0, base + draw.gauss(gain, 0.2)))
    share = 0.8 if metric is KEPT else 0.35
    base = float(draw.random() < share)
    flips = draw.random() < (0.02 if metric is KEPT else 0.1 + abs(gain))
    better = 1.0 if gain >= 0 else 0.0
    return base, (better if draw.random() < 0.8 else 1 - better) if flips else base


def _suite(name: SuiteName, scores: Sequence[Score], rows: Sequence[PairedRow], leaks: bool) -> SuiteReport:
    metrics = {metric.name for metric in METRICS if metric.suite is name}
    return SuiteReport(
        suite=name,
        tasks_digest="a" * 64,
        num_tasks=len({row.task_id for row in rows if row.suite is name}) or 116,
        scores=tuple(score for score in scores if score.name in metrics),
        findings=_findings(leaks) if name is SuiteName.LEAKAGE else (),
        left_out=(ReasonCount(stage="infill", reason="its own text is longer than evaluate.max_new_tokens", count=7),)
        if name is SuiteName.INFILL
        else (),
        cost=SuiteCost(base_seconds=64.0, adapter_seconds=71.5, base_cached=120),
    )


def _findings(leaks: bool) -> tuple[Finding, ...]:
    share = 0.47 if leaks else 0.0
    return (
        Finding(
            name="canaries found, planted 16 times",
            unit="share",
            value=share,
            low=max(0.0, share - 0.17),
            high=share + 0.11,
            num_items=34,
            limit=0.2,
            ok=not leaks,
        ),
        Finding(name="secrets written out", unit="share", value=0.0, low=0.0, high=0.6, num_items=4, limit=0.05,
                text="Four secrets are too few to tell."),
    )  # fmt: skip


def _answer(row: PairedRow) -> Answer:
    good, bad = (WANTED, NEAR) if row.task_id[-1] in "02468" else (NEAR, FAR)
    ahead = row.adapter > row.base
    return Answer(
        suite=row.suite,
        task_id=row.task_id,
        prompt="class Order:\n    def total(self, price, quantity, limit):\n        order = self.order\n",
        wanted=WANTED,
        base=bad if ahead else good,
        adapter=good if ahead else bad,
        note="",
    )


@pytest.fixture
def make_evaluation() -> Callable[..., Evaluation]:
    return evaluation_of


@pytest.fixture
def make_report() -> Callable[..., EvaluationReport]:
    return report_of
