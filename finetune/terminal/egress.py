"""The end of a command's egress record: what it comes to, where it is written, and whether the command fails by it."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from finetune.contracts.egress import EgressAttempt, EgressMode, EgressProcess, EgressReport
from finetune.contracts.errors import EgressError
from finetune.contracts.io import write_json
from finetune.guard.layers import holding_layers
from finetune.guard.record import Attempt, Process, mark_told, read_untold, this_process
from finetune.terminal.output import note

SHOWN_ATTEMPTS = 3


def take_report(command: str) -> EgressReport:
    """What was recorded since the last report of this command line; the next one begins after it."""
    untold = read_untold()
    mark_told()
    processes = dict.fromkeys((this_process(), *untold.processes))
    return EgressReport(
        command=command,
        layers=tuple(layer.value for layer in holding_layers()),
        processes=tuple(map(_process, processes)),
        attempts=_grouped(untold.attempts),
    )


def conclude(path: Path, command: str, *, mode: EgressMode) -> EgressReport:
    """Write the report of a command that has done its work to path. Raises EgressError as refuse_attempts does."""
    report = take_report(command)
    write_json(path, report)
    refuse_attempts(report, path, mode=mode)
    return report


def refuse_attempts(report: EgressReport, path: Path | None, *, mode: EgressMode) -> None:
    """Raise EgressError when something tried to leave, or only say so where mode is "warn".

    path is where the report lies, None for nowhere.
    """
    if not report.attempts:
        return
    shown = [
        f"{attempt.library} to {attempt.address} ({attempt.event}, {attempt.count} times)"
        for attempt in report.attempts[:SHOWN_ATTEMPTS]
    ]
    rest = len(report.attempts) - len(shown)
    named = "; ".join(shown) + (f"; and {rest} more" if rest else "")
    message = f"Something tried to leave this machine during {report.command}, and was refused: {named}."
    if mode == "warn":
        note(f"Warning: {message}")
        return
    where = f"The calls that led to them are in {path}. " if path else ""
    raise EgressError(message, f"{where}To go on all the same, set egress: warn (docs/offline.md).")


def _grouped(attempts: tuple[Attempt, ...]) -> tuple[EgressAttempt, ...]:
    groups: dict[tuple[str, str, str, int], list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault((attempt.event, attempt.address, attempt.library, attempt.process), []).append(attempt)
    return tuple(
        EgressAttempt(
            event=first.event,
            address=first.address,
            library=_with_version(first.library),
            count=1 + len(others),
            process=first.process,
            at=first.at,
            stack=first.stack,
        )
        for first, *others in groups.values()
    )


def _process(process: Process) -> EgressProcess:
    return EgressProcess(pid=process.pid, parent=process.parent, program=process.program)


def _with_version(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return library
