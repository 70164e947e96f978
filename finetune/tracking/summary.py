"""Texts of a run's record: the description that MLflow shows as the run's summary, and that of a model version."""

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.contracts.adapter import AdapterManifest, Score, whole_scores
from finetune.contracts.dataset import DatasetManifest, Split
from finetune.recipe.resolve import ResolvedRecipe
from finetune.terminal.progress import format_seconds
from finetune.tracking.card import dataset_name


@dataclass(frozen=True)
class TrainingFigures:
    """What training came to. losses are means per token in nats; memory is 0 where it is not known.

    first_loss and last_loss are those of loss_ends. utilisation_percent is the model FLOP utilisation against
    measured_peak_tflops, both 0 where they are not known; data_sheet_peak_tflops is None for a CPU and for an unknown
    card. The errors are those of the forecast, positive where it was too high; None without one.
    """

    steps: int
    seconds: float
    first_loss: float
    last_loss: float
    tokens_per_second: float
    peak_memory_bytes: int = 0
    utilisation_percent: float = 0.0
    measured_peak_tflops: float = 0.0
    data_sheet_peak_tflops: float | None = None
    time_error_percent: float | None = None
    memory_error_percent: float | None = None


def loss_ends(losses: Sequence[float]) -> tuple[float, float]:
    """The mean loss of the first quarter of the logged points, and that of the last quarter; there must be a point.

    A single point is the loss of the few rows of its steps: with rows of many tasks two of them tell more of the rows
    than of what was learned in between.
    """
    part = max(1, len(losses) // 4)
    return sum(losses[:part]) / part, sum(losses[-part:]) / part


def run_summary(
    resolved: ResolvedRecipe,
    dataset: DatasetManifest,
    *,
    base_name: str,
    run_id: str,
    training: TrainingFigures | None = None,
    adapter: AdapterManifest | None = None,
    scores: Sequence[Score] = (),
    next_command: str | None = None,
) -> str:
    """Markdown: what was trained on what, the figures, the next command. What is None has not happened yet."""
    parts = [_heading(resolved, scores), _sentence(resolved, dataset, base_name=base_name, training=training)]
    parts.append(_what(resolved, dataset, base_name))
    if scores:
        parts.append("#### Base against adapter, on held-out files\n\n" + score_rows(scores))
    if training:
        parts.append("#### Training\n\n" + _training(training))
    if adapter:
        step = "" if adapter.step is None else f", of step {adapter.step:,}"
        parts.append(
            f"#### Adapter\n\n`{adapter.adapter_id}`, rank {adapter.rank}{step}, in the artifacts under `adapter/`"
        )
    command = next_command or f"finetune evaluate {run_id}"
    parts.append(f"#### Next\n\n```\n{command}\n```")
    return "\n\n".join(parts) + "\n"


def score_rows(scores: Sequence[Score]) -> str:
    """A Markdown table of the scores over all tasks, the first one being the primary."""
    lines = ["| figure | base | adapter | difference, 95 % interval | verdict |", "|---|---:|---:|---:|---|"]
    lines += [
        f"| {score.name}{', ' + score.unit if score.unit else ''} | {score.base:.3f} | {score.adapter:.3f} | "
        f"{score.difference:+.3f} ({score.low:+.3f} to {score.high:+.3f}) | {score.verdict} |"
        for score in whole_scores(scores)
    ]
    return "\n".join(lines)


def adapter_text(manifest: AdapterManifest) -> str:
    """Markdown for a model version."""
    lines = [
        f"LoRA adapter `{manifest.adapter_id}` over **{manifest.base.name}** ({manifest.base.model_type}), "
        f"rank {manifest.rank}, alpha {manifest.alpha:g}, base held as {manifest.quantization.value}.",
        f"Made by run `{manifest.run_id}` from the dataset `{manifest.digests.dataset[:12]}`.",
    ]
    if manifest.scores:
        lines.append(score_rows(manifest.scores))
    return "\n\n".join(lines) + "\n"


def _heading(resolved: ResolvedRecipe, scores: Sequence[Score]) -> str:
    """MLflow folds a description after its first lines, so the result comes first."""
    if not scores:
        return f"### {resolved.name}"
    score = scores[0]
    return (
        f"### {score.verdict.capitalize()}: {score.name} {score.base:.3f} → {score.adapter:.3f} on held-out code "
        f"({score.difference:+.3f}, 95 % interval {score.low:+.3f} to {score.high:+.3f})"
    )


def _sentence(
    resolved: ResolvedRecipe, dataset: DatasetManifest, *, base_name: str, training: TrainingFigures | None
) -> str:
    text = (
        f"{resolved.description or resolved.name}: a LoRA adapter of rank {resolved.lora.rank} over **{base_name}**, "
        f"{dataset.num_examples(Split.TRAIN):,} examples of **{dataset_name(dataset)}**"
    )
    return f"{text}, {training.steps:,} steps in {format_seconds(training.seconds)}." if training else f"{text}."


def _what(resolved: ResolvedRecipe, dataset: DatasetManifest, base_name: str) -> str:
    sources = ", ".join(f"`{source.repo}` at `{source.commit[:10]}`" for source in dataset.sources)
    rows = [
        ("base", f"{base_name} ({resolved.base.family}, {resolved.base.quantization.value})"),
        ("dataset", f"{dataset_name(dataset)}, digest `{dataset.content_digest[:12]}`"),
        ("repositories", sources),
        (
            "examples",
            f"{dataset.num_examples(Split.TRAIN):,} to learn from, {dataset.num_examples(Split.HELDOUT):,} held out",
        ),
        ("recipe", f"`{resolved.name}`, digest `{resolved.digest()[:12]}`"),
    ]
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {text} |" for name, text in rows)


def _training(figures: TrainingFigures) -> str:
    parts = [
        f"{figures.steps:,} steps in {format_seconds(figures.seconds)}",
        f"loss {figures.first_loss:.3f} → {figures.last_loss:.3f}",
        f"{figures.tokens_per_second:,.0f} tokens/s",
    ]
    if figures.peak_memory_bytes:
        parts.append(f"{figures.peak_memory_bytes / 2**30:.2f} GiB at the peak")
    lines = [", ".join(parts), utilisation_text(figures), forecast_text(figures)]
    return "\n\n".join(line for line in lines if line)


def utilisation_text(figures: TrainingFigures) -> str:
    """What share of the machine was used, "" where that is not known."""
    if not figures.measured_peak_tflops:
        return ""
    sheet = figures.data_sheet_peak_tflops
    return (
        f"model FLOP utilisation {figures.utilisation_percent:.1f} % of {figures.measured_peak_tflops:,.3g} TFLOPS, "
        "measured at the start by a bfloat16 matrix product" + (f" (data sheet: {sheet:,.3g})" if sheet else "")
    )


def forecast_text(figures: TrainingFigures) -> str:
    """How far the forecast was off, "" without one."""
    errors = {"time": figures.time_error_percent, "memory": figures.memory_error_percent}
    known = [f"{name} {error:+.1f} %" for name, error in errors.items() if error is not None]
    return f"error of the forecast: {', '.join(known)} (+ is too high)" if known else ""
