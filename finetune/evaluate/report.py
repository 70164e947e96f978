"""Evaluate an adapter against its base, and the folder that keeps what was found."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.contracts.adapter import AdapterManifest, FileDigest, Score
from finetune.contracts.adapter_files import check_base, read_adapter
from finetune.contracts.errors import DatasetError, RunError
from finetune.contracts.evaluation import (
    ANSWERS_NAME,
    REPORT_NAME,
    ROWS_NAME,
    Answer,
    EngineRecord,
    EvaluationReport,
    PairedRow,
    SuiteName,
    SuiteReport,
)
from finetune.contracts.io import digest_file, new_folder, read_model, write_json
from finetune.contracts.seal import check_seal, sealed
from finetune.evaluate.infill_suite import InfillSuite
from finetune.evaluate.rows import HINT, read_table, write_table
from finetune.evaluate.runner import Runner, SuiteResult
from finetune.evaluate.scores import scores_of
from finetune.evaluate.suite import Suite, Unmeasured
from finetune.evaluate.suites import METRICS, Materials, Site, build_suites
from finetune.model.loading import LoadedBase
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import open_dataset
from finetune.render.rows import Renderer
from finetune.terminal.progress import Progress

ENGINE_NAME = "transformers, in the process of the evaluation"
ENGINE_NOTE = (
    "The code that loads and quantises the base and attaches the adapter is that of `finetune serve start`; requests "
    "did not go through its endpoint."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt as token ids, the tokens that an answer may have, and the greedy answers of both models."""

    token_ids: tuple[int, ...]
    max_tokens: int
    base: str
    adapter: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report with the rows that its figures are computed from, and what both models wrote.

    asked is what an endpoint can be asked to say again; it is not kept with the report.
    """

    report: EvaluationReport
    rows: tuple[PairedRow, ...]
    answers: tuple[Answer, ...]
    asked: tuple[Asked, ...] = ()


def evaluate(
    base: LoadedBase,
    adapter_folder: Path,
    dataset_folder: Path,
    *,
    names: Sequence[SuiteName],
    section: EvaluateSection,
    max_tokens: int,
    site: Site,
    progress: Callable[[str, int], Progress] = Progress,
) -> Evaluation:
    """Measure base and adapter on the suites of these names; base is left without the adapter.

    site.journals holds what was measured before, at this or another call. Raises AdapterError or DatasetError
    when a folder is damaged, when the adapter is of another base, or when none of the suites can be measured.
    """
    manifest = read_adapter(adapter_folder)
    check_base(manifest, base.identity, chat_template=base.chat_template_digest, tokenizer=base.tokenizer_digest)
    dataset = open_dataset(dataset_folder)
    renderer = Renderer(base.tokenizer, base.family, max_tokens)
    materials = Materials(dataset, renderer, section, site, trained_on=manifest.digests.dataset)
    built = build_suites(names, materials)
    suites = [suite for suite in built if not isinstance(suite, Unmeasured)]
    if not suites:
        reasons = " ".join(suite.reason for suite in built if isinstance(suite, Unmeasured))
        raise DatasetError(f"Nothing can be measured: {reasons}", "The suites are: finetune evaluate --help")
    found = Runner(base, adapter_folder, manifest, folder=site.journals, progress=progress).run(suites)
    rows = tuple(row for result in found for row in result.rows)
    metrics = [metric for suite in suites for metric in suite.metrics if metric.scored]
    scores = scores_of(rows, metrics, resamples=section.resamples, seed=section.seed)
    by_suite = {result.suite.name: _suite_report(result, scores) for result in found}
    report = EvaluationReport(
        adapter_id=manifest.adapter_id,
        adapter_digest=manifest.digests.weights,
        run_id=manifest.run_id,
        base=base.identity,
        dataset_digest=dataset.manifest.content_digest,
        created_at=int(time.time()),
        settings=json.dumps(section.model_dump(mode="json"), sort_keys=True),
        max_tokens=max_tokens,
        seed=section.seed,
        engine=engine_record(base, manifest),
        suites=tuple(
            SuiteReport(suite=suite.name, reason=suite.reason)
            if isinstance(suite, Unmeasured)
            else by_suite[suite.name]
            for suite in built
        ),
    )
    answers = tuple(answer for result in found for answer in result.answers)
    return Evaluation(report, rows, answers, tuple(_asked(suites, answers)))


def _asked(suites: Sequence[Suite], answers: Sequence[Answer]) -> Iterator[Asked]:
    by_task = {answer.task_id: answer for answer in answers if answer.suite is SuiteName.INFILL}
    for suite in suites:
        if isinstance(suite, InfillSuite):
            for task_id, prompt in suite.prompts().items():
                if task_id in by_task:
                    found = by_task[task_id]
                    yield Asked(prompt, suite.max_new_tokens, found.base, found.adapter)


def engine_record(base: LoadedBase, manifest: AdapterManifest) -> EngineRecord:
    """What ran the models, and whether it is what serves the adapter."""
    note = ENGINE_NOTE
    if base.quantization is not manifest.quantization:
        note = f"The adapter was trained over {manifest.quantization.value}. {note}"
    dtype = str(base.model.dtype).removeprefix("torch.")
    return EngineRecord(
        name=ENGINE_NAME,
        quantization=base.quantization,
        device=base.device,
        dtype=dtype,
        served=False,
        note=note,
    )


def recompute(report: EvaluationReport, rows: Sequence[PairedRow]) -> tuple[Score, ...]:
    """The scores that rows give with the settings of report: those of an untouched report are equal to its own."""
    section = EvaluateSection.model_validate_json(report.settings)
    suites = {suite.suite for suite in report.suites if suite.measured}
    metrics = [metric for metric in METRICS if metric.suite in suites]
    scores = scores_of(rows, metrics, resamples=section.resamples, seed=section.seed)
    suite_of = {metric.name: metric.suite for metric in metrics}
    return tuple(score for suite in report.suites for score in scores if suite_of[score.name] is suite.suite)


def save_evaluation(evaluation: Evaluation, folder: Path) -> Evaluation:
    """Write report, rows and answers as a folder that replaces the one before; returns it with digests and seal.

    Raises MachineError when the disk refuses; what was at folder is then as it was.
    """
    with new_folder(folder) as scratch:
        write_table(scratch / ROWS_NAME, PairedRow, evaluation.rows)
        write_table(scratch / ANSWERS_NAME, Answer, evaluation.answers)
        files = tuple(
            FileDigest(name=name, bytes=(scratch / name).stat().st_size, sha256=digest_file(scratch / name))
            for name in (ROWS_NAME, ANSWERS_NAME)
        )
        report = sealed(evaluation.report.model_copy(update={"files": files}))
        write_json(scratch / REPORT_NAME, report)
    return Evaluation(report, evaluation.rows, evaluation.answers)


def load_evaluation(folder: Path) -> Evaluation:
    """What save_evaluation wrote. Raises RunError naming the file that is missing, damaged or altered."""
    path = folder / REPORT_NAME
    report = read_model(path, EvaluationReport, error=RunError, hint=HINT)
    check_seal(report, path, error=RunError, hint=HINT)
    unnamed = {ROWS_NAME, ANSWERS_NAME} - {file.name for file in report.files}
    if unnamed:
        raise RunError(f"{path} does not name {' and '.join(sorted(unnamed))}.", HINT)
    for file in report.files:
        if not (folder / file.name).is_file():
            raise RunError(f"{folder / file.name} is missing.", HINT)
        if digest_file(folder / file.name) != file.sha256:
            raise RunError(
                f"{folder / file.name} does not have the digest that the report names: it was altered.", HINT
            )
    rows = read_table(folder / ROWS_NAME, PairedRow)
    return Evaluation(report, rows, read_table(folder / ANSWERS_NAME, Answer))


def load_rows(folder: Path) -> tuple[EvaluationReport, tuple[PairedRow, ...]]:
    """The part of load_evaluation that figures are computed from."""
    found = load_evaluation(folder)
    return found.report, found.rows


def _suite_report(result: SuiteResult, scores: Sequence[Score]) -> SuiteReport:
    suite: Suite = result.suite
    own = {metric.name for metric in suite.metrics}
    return SuiteReport(
        suite=suite.name,
        tasks_digest=suite.digest,
        num_tasks=len(suite.tasks),
        scores=tuple(score for score in scores if score.name in own),
        findings=suite.findings(result.rows, result.answers),
        left_out=(*suite.left_out(), *result.broken),
        cost=result.cost,
    )
