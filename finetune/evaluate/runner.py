"""Measure the base, then the adapter, at the tasks of some suites; what an earlier evaluation found is taken over."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.dataset import ReasonCount
from finetune.contracts.evaluation import Answer, PairedRow, SuiteCost
from finetune.evaluate.journal import Journal, JournalKey
from finetune.evaluate.suite import Measured, Side, Subject, Suite, Task
from finetune.model.loading import LoadedBase
from finetune.model.lora import attach_saved, detach
from finetune.terminal.progress import Progress

ADAPTER_NAME = "evaluated"
STAGE = "evaluate"


@dataclass(frozen=True, slots=True)
class SideResult:
    """One model at one suite: results by task, how many of them were there before, and how long the rest took."""

    results: dict[str, Measured]
    cached: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """Both models at one suite. broken counts tasks at which the machinery failed for either; they have no row."""

    suite: Suite
    rows: tuple[PairedRow, ...]
    answers: tuple[Answer, ...]
    broken: tuple[ReasonCount, ...]
    cost: SuiteCost


class Runner:
    """Runs suites over one base and one adapter. folder holds the journals; progress makes a bar.

    The base is measured first, all suites of it, then the adapter is attached to the same weights; at the end the base
    is without it again.
    """

    def __init__(
        self,
        base: LoadedBase,
        adapter_folder: Path,
        manifest: AdapterManifest,
        *,
        folder: Path,
        progress: Callable[[str, int], Progress] = Progress,
    ) -> None:
        self._base = base
        self._adapter_folder = adapter_folder
        self._manifest = manifest
        self._folder = folder
        self._progress = progress

    def run(self, suites: Sequence[Suite]) -> list[SuiteResult]:
        """Both models at all suites. Raises RunError when another process measures one of them."""
        base = [self._side(suite, Subject("base", self._base.model)) for suite in suites]
        model = attach_saved(self._base, self._adapter_folder, ADAPTER_NAME)
        try:
            adapter = [self._side(suite, Subject("adapter", model)) for suite in suites]
        finally:
            detach(model, ADAPTER_NAME)
        return [pair(*sides) for sides in zip(suites, base, adapter, strict=True)]

    def _side(self, suite: Suite, subject: Subject) -> SideResult:
        journal = Journal(self._folder, self._key(suite, subject.side))
        task_ids = [task.id for task in suite.tasks]
        results = {task_id: found for task_id, found in journal.read().items() if not found.broken}
        missing = [task_id for task_id in task_ids if task_id not in results]
        cached = len(task_ids) - len(missing)
        if not missing:
            return SideResult(results, cached=cached, seconds=0.0)
        started = time.monotonic()
        label = f"{suite.name.value}: {self._base.identity.name if subject.side == 'base' else 'adapter'}"
        with self._progress(label, len(task_ids)) as bar, journal.writing() as writer:
            bar.advance(cached)

            def told(measured: Measured) -> None:
                writer.add(measured)
                results[measured.task_id] = measured
                bar.advance()

            suite.measure(subject, missing, told=told)
        return SideResult(results, cached=cached, seconds=time.monotonic() - started)

    def _key(self, suite: Suite, side: Side) -> JournalKey:
        return JournalKey(
            suite=suite.name,
            tasks=suite.digest,
            base=self._base.identity.digest,
            tokenizer=self._base.tokenizer_digest,
            template=self._base.chat_template_digest,
            adapter=self._manifest.digests.weights if side == "adapter" else "",
            quantization=self._base.quantization,
            device=self._base.device,
            versions=versions(),
        )


def pair(suite: Suite, base: SideResult, adapter: SideResult) -> SuiteResult:
    """Rows and answers of the tasks at which both models have a result."""
    rows: list[PairedRow] = []
    answers: list[Answer] = []
    broken: Counter[str] = Counter()
    for task in suite.tasks:
        left, right = base.results.get(task.id), adapter.results.get(task.id)
        if left is None or right is None or left.broken or right.broken:
            broken[_why(left, right)] += 1
            continue
        rows += _rows(suite, task, left, right)
        if left.answer or right.answer or task.wanted:
            answers.append(_answer(suite, task, left, right))
    cost = SuiteCost(
        base_seconds=round(base.seconds, 1),
        adapter_seconds=round(adapter.seconds, 1),
        base_cached=base.cached,
        adapter_cached=adapter.cached,
    )
    counts = tuple(ReasonCount(stage=STAGE, reason=reason, count=broken[reason]) for reason in sorted(broken))
    return SuiteResult(suite, tuple(rows), tuple(answers), counts, cost)


def _rows(suite: Suite, task: Task, base: Measured, adapter: Measured) -> Iterator[PairedRow]:
    """A row for each metric that has something to say of both answers."""
    for metric in suite.metrics:
        if metric.name in base.values and metric.name in adapter.values:
            yield PairedRow(
                suite=suite.name,
                metric=metric.name,
                task_id=task.id,
                repo=task.repo,
                path=task.path,
                cluster=task.cluster,
                language=task.language,
                group=task.group,
                slice=task.slice,
                base=base.values[metric.name],
                adapter=adapter.values[metric.name],
                size=base.size if metric.kind == "ratio" else 1.0,
            )


def _answer(suite: Suite, task: Task, base: Measured, adapter: Measured) -> Answer:
    notes = [f"{side}: {note}" for side, note in (("base", base.note), ("adapter", adapter.note)) if note]
    return Answer(
        suite=suite.name,
        task_id=task.id,
        prompt=task.prompt,
        wanted=task.wanted,
        base=base.answer,
        adapter=adapter.answer,
        note="\n".join(notes),
    )


def _why(base: Measured | None, adapter: Measured | None) -> str:
    broken = [found.broken for found in (base, adapter) if found is not None and found.broken]
    return f"broken infrastructure: {broken[0]}" if broken else "no result: the suite did not measure it"


def versions() -> str:
    """This program and the libraries whose arithmetic decides a result."""
    from importlib.metadata import version

    names = ("finetune", "torch", "transformers", "peft", "bitsandbytes")
    return " ".join(f"{name} {version(name)}" for name in names)
