"""Tracker: what training and evaluation say about a run, and who it is said to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.dataset import DatasetManifest

RunStatus = Literal["finished", "failed", "interrupted"]


@dataclass(frozen=True)
class RunCard:
    """What is known of a run when it starts. parameters are flat dotted keys with text values."""

    run_id: str
    experiment: str
    recipe_name: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """The sink of a run's record. start raises MachineError when the store cannot be used; no other method raises.

    Metric names are grouped: train/..., eval/..., system/... with the unit in the name (train/tokens_per_second).
    """

    def start(self, card: RunCard, *, resume: str | None = None) -> str:
        """Open a run, or go on with the tracking run id in resume; returns the tracking run id."""
        ...

    def dataset(self, manifest: DatasetManifest, folder: Path) -> None:
        """Record the dataset as the run's input."""
        ...

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at a step."""
        ...

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file or a folder into the run's artifacts, under folder."""
        ...

    def tag(self, values: Mapping[str, str]) -> None:
        """Set tags that are known only once the run has begun."""
        ...

    def describe(self, markdown: str) -> None:
        """Set the run's description, replacing the one before."""
        ...

    def register(self, manifest: AdapterManifest, folder: Path, name: str) -> None:
        """Register the adapter folder as a new model version under name."""
        ...

    def finish(self, status: RunStatus) -> None:
        """Close the run; what the store lacks is in the journal, replayed by the next start or `runs list`."""
        ...
