"""What training came to, read back from a run's journal: evaluation writes it beside the scores."""

from pathlib import Path

from finetune.tracking.jsonl import Entry, parse
from finetune.tracking.summary import TrainingFigures, loss_ends

LOSS = "train/loss"
SPEED = "train/tokens_per_second"
MEMORY = "system/memory_gib"
# points of two processes, or of one that slept, lie further apart than this; the gap was no training
LONGEST_STEP_MS = 30 * 60 * 1000


def training_figures(journal: Path) -> TrainingFigures | None:
    """The figures of all processes that trained the run; None where the journal holds no training loss."""
    if not journal.is_file():
        return None
    entries = parse(journal.read_bytes())
    points = [point for entry in entries for point in entry.points()]
    losses = dict(sorted((step, value) for name, step, value in points if name == LOSS))
    if not losses:
        return None
    first_loss, last_loss = loss_ends(list(losses.values()))
    speeds = [value for name, _, value in points if name == SPEED]
    memory = max((value for name, _, value in points if name == MEMORY), default=0.0)
    return TrainingFigures(
        steps=max(losses),
        seconds=_training_ms(entries) / 1000,
        first_loss=first_loss,
        last_loss=last_loss,
        tokens_per_second=sum(speeds) / len(speeds) if speeds else 0.0,
        peak_memory_bytes=round(memory * 2**30),
    )


def _training_ms(entries: list[Entry]) -> int:
    total, before = 0, None
    for entry in entries:
        if any(name == LOSS for name, _, _ in entry.points()):
            if before is not None and entry.at_ms - before <= LONGEST_STEP_MS:
                total += entry.at_ms - before
            before = entry.at_ms
        elif entry.kind in ("start", "opened"):
            before = entry.at_ms
    return total
