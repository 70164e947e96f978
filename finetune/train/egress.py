"""The egress record of a run: what kept it from the network and what tried to leave, in its folder and as tracked."""

from finetune.contracts.egress import EgressMode, EgressReport
from finetune.contracts.io import write_json
from finetune.contracts.run import RunLayout
from finetune.terminal.egress import refuse_attempts, take_report
from finetune.tracking.base import Tracker


class RunEgress:
    """Written once, however the run ends; tracker is open by then."""

    def __init__(self, layout: RunLayout, tracker: Tracker) -> None:
        self._layout = layout
        self._tracker = tracker
        self._report: EgressReport | None = None

    def record(self) -> EgressReport:
        """Write egress.json, and put it into the tracked run with its tags; a second call changes nothing."""
        if self._report is None:
            self._report = take_report("train")
            write_json(self._layout.egress, self._report)
            self._tracker.artifact(self._layout.egress)
            self._tracker.tag(self._report.tags())
        return self._report

    def refuse(self, mode: EgressMode) -> None:
        """Raise EgressError when a process of the run tried to leave, or say so where mode is "warn"."""
        refuse_attempts(self.record(), self._layout.egress, mode=mode)
