"""Paths as a report may show them: without secrets and persons."""

from collections.abc import Collection, Sequence

from data_pipelines.filters.chain import printable_path
from data_pipelines.redact.form import Form
from data_pipelines.redact.redactor import Redactor, ScanFailed


def shown_paths(redactor: Redactor, paths: Sequence[bytes], hidden: Collection[bytes]) -> list[str]:
    """Paths as a report may show them: all scanned at once, each by itself only where something is found."""
    shown = [printable_path(path) for path in paths]
    try:
        if not hidden and not redactor.rules_that_hit("\n".join(shown), Form.PROSE):
            return shown
    except ScanFailed:
        pass
    return [shown_path(redactor, path) for path in shown]


def shown_path(redactor: Redactor, path: str) -> str:
    """A path as a report may show it; "" when it could not be scanned."""
    try:
        return redactor.redact(path, Form.PROSE).text
    except ScanFailed:
        return ""
