"""The picture of a run's losses, drawn from its journal."""

from collections.abc import Sequence
from pathlib import Path

from finetune.contracts.io import disk_errors

TRAIN_LOSS = "train/loss"
HELDOUT_LOSS = "eval/loss"
SMOOTHING = 0.8


def plot_losses(points: Sequence[tuple[str, int, float]], path: Path, *, title: str = "") -> bool:
    """Draw train/loss, smoothed over it, and eval/loss where there is one, into a PNG; False when there is no loss.

    points are (name, step, value); the loss is a mean per token in nats. Raises MachineError when the disk refuses.
    """
    train = [(step, value) for name, step, value in points if name == TRAIN_LOSS]
    heldout = [(step, value) for name, step, value in points if name == HELDOUT_LOSS]
    if not train:
        return False
    # drawn without pyplot: no global state, no window system
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [step for step, _ in train]
    axes.plot(steps, [value for _, value in train], color="#9ec5e8", linewidth=1, label="train, each step")
    axes.plot(steps, smooth([value for _, value in train]), color="#1f5fa8", linewidth=2, label="train, smoothed")
    if heldout:
        axes.plot(*zip(*heldout, strict=True), color="#c0502d", marker="o", markersize=4, label="held-out")
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("loss, nats per token")
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    with disk_errors(path):
        figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
    return True


def smooth(values: Sequence[float]) -> list[float]:
    """Exponential moving average with the bias of its start removed, as in Adam (arXiv 1412.6980, section 3)."""
    average, weight, out = 0.0, 0.0, []
    for value in values:
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        out.append(average / weight)
    return out
