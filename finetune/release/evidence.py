"""A report as evidence: it is of this adapter, untouched, in the record, and its figures follow from its rows."""

from collections.abc import Callable, Sequence
from pathlib import Path

from finetune.contracts.adapter import AdapterManifest, Score
from finetune.contracts.chain import EVALUATED, Entry
from finetune.contracts.errors import GateError, RunError
from finetune.contracts.evaluation import REPORT_NAME, EvaluationReport, PairedRow
from finetune.contracts.io import digest_file

HINT = "Evaluate it again: finetune evaluate ADAPTER"
# a report folder, proven whole: seal, files and their digests; raises RunError naming what is not
Load = Callable[[Path], tuple[EvaluationReport, Sequence[PairedRow]]]
Recompute = Callable[[EvaluationReport, Sequence[PairedRow]], tuple[Score, ...]]


def read_evidence(
    folder: Path, manifest: AdapterManifest, *, entries: Sequence[Entry], load: Load, recompute: Recompute
) -> tuple[EvaluationReport, str]:
    """The report in folder and the digest of its file. Raises GateError naming the first thing that does not hold."""
    path = folder / REPORT_NAME
    try:
        report, rows = load(folder)
    except RunError as cause:
        raise GateError(f"No report speaks for {manifest.adapter_id}: {cause.message}", HINT) from cause
    if not report.seal:
        raise GateError(f"{path} has no seal.", HINT)
    if report.adapter_digest != manifest.digests.weights:
        raise GateError(
            f"{path} is about {report.adapter_id} with weights {report.adapter_digest[:12]}, not about "
            f"{manifest.adapter_id} with weights {manifest.digests.weights[:12]}.",
            HINT,
        )
    digest = digest_file(path)
    if not any(_is_about(entry, manifest, digest) for entry in entries):
        raise GateError(
            f"{path} (digest {digest[:12]}) is not in the record of this home: no evaluation here came to it.", HINT
        )
    if recompute(report, rows) != report.scores:
        raise GateError(f"{path} names figures that do not follow from its rows: it was altered.", HINT)
    return report, digest


def _is_about(entry: Entry, manifest: AdapterManifest, digest: str) -> bool:
    of_adapter = entry.text("weights") == manifest.digests.weights
    return entry.kind == EVALUATED and of_adapter and entry.text("report") == digest
