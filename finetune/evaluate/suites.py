"""Which suites an evaluation measures, built from what there is; what cannot be measured here says why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from finetune.contracts.dataset import Task
from finetune.contracts.errors import DatasetError, PlatformError
from finetune.contracts.evaluation import SuiteName
from finetune.evaluate.control import ControlGaps, control_suite
from finetune.evaluate.executed.suite import ExecutedTasks, executed_suite
from finetune.evaluate.heldout_suite import HeldoutSuite, heldout_suite
from finetune.evaluate.infill_suite import InfillSuite, infill_suite
from finetune.evaluate.leakage.scan import SecretScan
from finetune.evaluate.leakage.suite import LeakageSuite, leakage_suite
from finetune.evaluate.metric import Metric
from finetune.evaluate.retention import RetentionSuite
from finetune.evaluate.suite import Suite, Unmeasured
from finetune.model.scoring import pad_token
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import OpenDataset
from finetune.render.rows import Renderer


@dataclass(frozen=True, slots=True)
class Site:
    """What an evaluation has beside models and rows.

    journals is the folder of what was measured before. scan is the scanner for secrets, None without one. trained_tasks
    are the tasks whose rows the adapter saw, None for all. tasks are the folders of tasks that tests grade.
    """

    journals: Path
    scan: SecretScan | None = None
    trained_tasks: Sequence[Task] | None = None
    tasks: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Materials:
    """What suites are made of: the dataset, how its rows become tokens, and the recipe's evaluate section.

    trained_on is the digest of the dataset that the adapter was trained on.
    """

    dataset: OpenDataset
    renderer: Renderer
    section: EvaluateSection
    site: Site
    trained_on: str

    @property
    def pad_token(self) -> int:
        """The token that fills short rows; attention and losses never see it."""
        return pad_token(self.renderer.tokenizer)


def _heldout(materials: Materials) -> Suite:
    found = heldout_suite(materials.dataset, materials.renderer, materials.section, pad_token=materials.pad_token)
    if found is None:
        raise DatasetError(
            f"{materials.dataset.folder} has no held-out row that fits in {materials.renderer.max_tokens} tokens.",
            "See `finetune data stats`; build the dataset from a longer history or from more repositories.",
        )
    return found


def _infill(materials: Materials) -> Suite:
    found = infill_suite(materials.dataset, materials.renderer, materials.section)
    if found is None:
        raise DatasetError(
            f"{materials.dataset.folder} has no held-out gap whose text fits in "
            f"evaluate.max_new_tokens {materials.section.max_new_tokens}.",
            "Raise it in the recipe, or build the dataset with the infill task.",
        )
    return found


def _executed(materials: Materials) -> Suite:
    site = materials.site
    grades = site.journals / "grades"
    trained_on = materials.trained_on
    return executed_suite(site.tasks, materials.renderer, materials.section, cache=grades, trained_on=trained_on)


def _control(materials: Materials) -> Suite:
    return control_suite(materials.dataset, materials.renderer, materials.section)


def _leakage(materials: Materials) -> Suite:
    if materials.trained_on != materials.dataset.manifest.content_digest:
        raise DatasetError(
            f"The adapter was not trained on {materials.dataset.folder}: what it kept of it cannot be asked.",
            "Evaluate it on its own dataset: finetune evaluate RUN",
        )
    return leakage_suite(
        materials.dataset,
        materials.renderer,
        materials.section,
        pad_token=materials.pad_token,
        scan=materials.site.scan,
        tasks=materials.site.trained_tasks,
    )


def _retention(materials: Materials) -> Suite:
    # its own renderer: what is cut or left out of these rows is counted apart
    known = materials.renderer
    renderer = Renderer(known.tokenizer, known.family, known.max_tokens)
    return RetentionSuite(renderer, materials.section, pad_token=materials.pad_token)


BUILDERS: Mapping[SuiteName, Callable[[Materials], Suite]] = MappingProxyType(
    {
        SuiteName.HELDOUT: _heldout,
        SuiteName.INFILL: _infill,
        SuiteName.EXECUTED: _executed,
        SuiteName.RETENTION: _retention,
        SuiteName.LEAKAGE: _leakage,
        SuiteName.CONTROL: _control,
    }
)
METRICS: tuple[Metric, ...] = tuple(
    metric
    for suite in (HeldoutSuite, InfillSuite, ExecutedTasks, RetentionSuite, LeakageSuite, ControlGaps)
    for metric in suite.metrics
    if metric.scored
)


def build_suites(names: Sequence[SuiteName], materials: Materials) -> list[Suite | Unmeasured]:
    """The suites of these names, in the order of BUILDERS."""
    return [_build(name, materials) for name in BUILDERS if name in names]


def _build(name: SuiteName, materials: Materials) -> Suite | Unmeasured:
    try:
        return BUILDERS[name](materials)
    except PlatformError as error:
        return Unmeasured(name, str(error))
