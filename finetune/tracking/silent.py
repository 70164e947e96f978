"""A Tracker for processes that help with a run which another one records."""

from collections.abc import Mapping
from pathlib import Path

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.dataset import DatasetManifest
from finetune.tracking.base import RunCard, RunStatus


class SilentTracker:
    """A Tracker that records nothing."""

    def start(self, card: RunCard, *, resume: str | None = None) -> str:
        """The tracking run that the recording process has opened."""
        return resume or ""

    def dataset(self, manifest: DatasetManifest, folder: Path) -> None:
        pass

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def artifact(self, path: Path, folder: str = "") -> None:
        pass

    def tag(self, values: Mapping[str, str]) -> None:
        pass

    def describe(self, markdown: str) -> None:
        pass

    def register(self, manifest: AdapterManifest, folder: Path, name: str) -> None:
        pass

    def finish(self, status: RunStatus) -> None:
        pass
