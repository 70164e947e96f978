"""The picture of an evaluation: each score's difference with its interval, against the line of no difference."""

from collections.abc import Sequence
from pathlib import Path

from finetune.contracts.adapter import Score
from finetune.contracts.io import disk_errors
from finetune.evaluate.wording import direction_of, toward_better

PANEL_INCHES = 1.0
COLORS = {"better": "#2c7a4b", "no worse": "#2c7a4b", "not shown": "#6b7280", "worse": "#b3362b"}


def plot_scores(scores: Sequence[Score], path: Path, *, title: str) -> None:
    """Draw the scores over all tasks, one panel each, into a PNG. Raises MachineError when the disk refuses."""
    # drawn without pyplot: no global state, no window system
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [score for score in scores if not score.part]
    figure = Figure(figsize=(7.0, 0.6 + PANEL_INCHES * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, score in zip(panels, shown, strict=True):
        reach = 1.25 * max(abs(score.low), abs(score.high), score.margin or 0.0, 1e-3)
        color = COLORS[score.verdict]
        axes.axvline(0.0, color="#9ca3af", linewidth=1)
        if score.margin is not None:
            axes.axvline(toward_better(score, -score.margin), color="#8a5a00", linewidth=1, linestyle="--")
        axes.plot([score.low, score.high], [0, 0], color=color, linewidth=3, solid_capstyle="butt")
        axes.plot([score.difference], [0], color=color, marker="o", markersize=8)
        axes.set_xlim(-reach, reach)
        axes.set_yticks([])
        axes.set_title(
            f"{score.name}: {score.base:.3f} → {score.adapter:.3f}, {score.verdict} ({direction_of(score)})",
            loc="left",
            fontsize=9,
        )
        axes.tick_params(labelsize=8)
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
    panels[-1].set_xlabel("adapter - base, with its 95 % interval; dashed: the margin", fontsize=9)
    figure.suptitle(title, fontsize=10)
    with disk_errors(path):
        figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
