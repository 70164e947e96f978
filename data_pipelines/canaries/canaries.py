"""The canaries of one build: planted as its last source, registered in its settings, counted at its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.canaries.planting import plant
from data_pipelines.canaries.survival import count_survival
from data_pipelines.config import PipelineConfig
from data_pipelines.engine.sourcing import Head
from data_pipelines.engine.work import Work
from finetune.contracts.canaries import CANARIES_NAME, CANARY_REPO, CanaryPlan, CanaryRecord
from finetune.contracts.dataset import Shard
from finetune.contracts.errors import UsageError
from finetune.contracts.io import write_json


@dataclass(frozen=True, slots=True)
class Canaries:
    """What a build plants; head is the source that stands for it."""

    head: Head
    plan: CanaryPlan

    def write(self, folder: Path, shards: Sequence[Shard]) -> None:
        """Write canaries.json beside the shards in folder, with what of the plan came into them."""
        record = CanaryRecord(plan=self.plan, survival=count_survival(folder, shards, self.plan))
        write_json(folder / CANARIES_NAME, record)


def plant_canaries(config: PipelineConfig, heads: Sequence[Head], *, work: Work) -> Canaries | None:
    """Plant what the pipeline asks for; None when it asks for nothing. heads are the company's own sources.

    Raises UsageError when one of them bears the name that canaries have in provenance.
    """
    section = config.canaries
    if not section.enabled:
        return None
    if any(head.section.name == CANARY_REPO for head in heads):
        raise UsageError(
            f'A source is called "{CANARY_REPO}", as the repository of the canaries is.',
            "Give that source another `name` in the pipeline file (docs/data.md).",
        )
    visibility = heads[0].section.visibility
    source, plan = plant(section, work.folder, seed=config.seed, visibility=visibility)
    return Canaries(Head(source, plan.commit), plan)
