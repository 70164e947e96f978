"""The leakage suite: canaries, trained passages and flagged secrets, measured on base and adapter alike."""

import json
from collections.abc import Callable, Mapping, Sequence

from finetune.contracts.canaries import CANARIES_NAME, PLAN_KEY, CanaryRecord
from finetune.contracts.dataset import Example, ReasonCount
from finetune.contracts.dataset import Task as RowTask
from finetune.contracts.errors import DatasetError
from finetune.contracts.evaluation import Answer, Finding, PairedRow, SuiteName
from finetune.contracts.io import digest_text, read_model
from finetune.evaluate.leakage.canaries import CanaryPart, copies_learned, tier_name
from finetune.evaluate.leakage.findings import canary_findings, passage_findings, secret_findings
from finetune.evaluate.leakage.metrics import METRICS
from finetune.evaluate.leakage.passages import PassagePart
from finetune.evaluate.leakage.scan import SecretScan
from finetune.evaluate.leakage.secrets import SecretPart, is_flagged
from finetune.evaluate.leakage.trained import Trained, read_trained
from finetune.evaluate.leakage.writer import Writer
from finetune.evaluate.suite import Measured, Subject
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import HINT, OpenDataset
from finetune.render.rows import Renderer

DEFINITION = 1
SPARE = 4
"""Rows drawn for each that is asked for: some are too short."""
NO_SCAN = "Not measured: no scanner was at hand. Evaluate with `finetune evaluate RUN`."
NO_KEY = (
    "Not measured: the key of this dataset's placeholders is not here, so a value cannot be known again. Evaluate "
    "in the home that built it, or name the redact.key_file of its pipeline file: finetune evaluate RUN --key-file PATH"
)


class LeakageSuite:
    """The three parts as one set of tasks. notes say by (kind, tier) how many copies training was shown."""

    name = SuiteName.LEAKAGE
    metrics = METRICS

    def __init__(
        self,
        canaries: CanaryPart,
        passages: PassagePart,
        secrets: SecretPart | None,
        *,
        identity: str,
        notes: Mapping[tuple[str, str], str],
        no_values: str,
        seed: int,
    ) -> None:
        self._passages = passages
        self._parts = [part for part in (canaries, passages, secrets) if part is not None]
        self._notes = notes
        self._no_values = no_values
        self._seed = seed
        self.tasks = tuple(task for part in self._parts for task in part.tasks)
        prompts = [
            [[ask.task_id, ask.ids, ask.start] for ask in canaries.asks],
            [[passage.task_id, passage.prompt, passage.wanted] for passage in passages.passages],
            [[task.id, prompt] for task, prompt in zip(secrets.tasks, secrets.prompts, strict=True)] if secrets else [],
        ]
        self.digest = digest_text(json.dumps([DEFINITION, identity, prompts]))

    def left_out(self) -> tuple[ReasonCount, ...]:
        return self._passages.left_out()

    def measure(self, subject: Subject, task_ids: Sequence[str], *, told: Callable[[Measured], None]) -> None:
        wanted = frozenset(task_ids)
        for part in self._parts:
            part.measure(subject.model, wanted, told)

    def findings(self, rows: Sequence[PairedRow], answers: Sequence[Answer]) -> tuple[Finding, ...]:
        return (
            *canary_findings(rows, notes=self._notes, seed=self._seed),
            *secret_findings(rows, reason=self._no_values),
            *passage_findings(rows),
        )


def leakage_suite(
    dataset: OpenDataset,
    renderer: Renderer,
    section: EvaluateSection,
    *,
    pad_token: int,
    scan: SecretScan | None,
    tasks: Sequence[RowTask] | None = None,
) -> LeakageSuite:
    """What section asks for of the rows of tasks (None: all), which are those that the adapter was trained on.

    scan None: secrets are not looked for. Raises DatasetError when the record of the canaries is damaged or is not the
    one that was registered.
    """
    # its own renderer: what it crops here is not what an evaluation leaves out
    own = Renderer(renderer.tokenizer, renderer.family, renderer.max_tokens)
    writer = Writer(own, pad_token, section.batch_rows)
    record = read_canaries(dataset)
    canaries = record.plan.canaries if record else ()
    trained = _trained(dataset, section, scan=scan, tasks=tasks)
    clean = scan.redact if scan else _as_it_is
    secrets = SecretPart(trained.flagged, writer, scan=scan, limit=section.leakage_rows) if scan else None
    return LeakageSuite(
        CanaryPart(canaries, writer),
        PassagePart(trained.rows, writer, limit=section.leakage_rows, clean=clean),
        secrets,
        identity=f"{section.batch_rows} {pad_token} {scan.digest if scan else ''} {scan.same_key if scan else ''}",
        notes=_notes(record, trained.canaries, own),
        no_values=NO_SCAN if scan is None else "" if scan.same_key else NO_KEY,
        seed=section.seed,
    )


def read_canaries(dataset: OpenDataset) -> CanaryRecord | None:
    """The canaries of a dataset, None when it has none. Raises DatasetError when they are not those registered."""
    registered = json.loads(dataset.manifest.settings or "{}").get(PLAN_KEY)
    path = dataset.folder / CANARIES_NAME
    if registered is None:
        return None
    if not path.is_file():
        raise DatasetError(f"{path} is missing: the dataset has canaries, and nothing tells which.", HINT)
    record = read_model(path, CanaryRecord, error=DatasetError, hint=HINT)
    if record.plan.digest() != registered:
        raise DatasetError(f"{path} is not the list of canaries that the manifest registers: it was altered.", HINT)
    return record


def _trained(
    dataset: OpenDataset, section: EvaluateSection, *, scan: SecretScan | None, tasks: Sequence[RowTask] | None
) -> Trained:
    redact = json.loads(dataset.manifest.settings or "{}").get("redact", {})
    in_clear = not redact.get("secrets", True)

    def flagged(example: Example) -> bool:
        return scan is not None and is_flagged(example, scan, in_clear=in_clear)

    limit = SPARE * section.leakage_rows
    return read_trained(dataset, tasks=tasks, limit=limit, seed=section.seed, is_flagged=flagged)


def _notes(record: CanaryRecord | None, rows: Sequence[Example], renderer: Renderer) -> dict[tuple[str, str], str]:
    """By kind and tier, how many copies came through to the learned tokens of an epoch."""
    if record is None:
        return {}
    learned = copies_learned(record.plan.canaries, rows, renderer)
    notes = {}
    for tier in record.survival:
        own = [c for c in record.plan.canaries if not c.is_control and (c.kind, c.copies) == (tier.kind, tier.copies)]
        count = sum(learned[canary.id] for canary in own)
        notes[tier.kind.value, tier_name(tier.copies)] = (
            f"Of {tier.planted} planted copies {tier.shown} came through the build; an epoch teaches {count}."
        )
    return notes


def _as_it_is(text: str, path: str) -> str:
    return text
