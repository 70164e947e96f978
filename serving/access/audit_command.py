"""finetune serve audit: who asked the servers of a home for what, and whether the log of it still holds."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json
from serving.access.command import seconds_of

if TYPE_CHECKING:
    from serving.access.audit_files import AuditEvent, Summary

COLUMNS = ("at", "who", "what", "of", "version", "outcome", "tokens", "request")


def audit(
    key: Annotated[
        str | None, typer.Option("--key", metavar="NAME", help="Only what this key, or person, did.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="NAME", help="Only what names this adapter, by name or id.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only the last 24h, 7d and so on. None: all.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check each chain from end to end, and print no entry.")
    ] = False,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Print who asked for what and what answered, of all servers of the home, or check that nothing was altered."""
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, table
    from serving.access.audit_files import AUDIT_NAME, series_in, summary_of

    folder = Home(home).served / AUDIT_NAME
    if verify:
        summaries = [summary_of(series, files) for series, files in series_in(folder).items()]
        text = "\n".join(map(_sentence, summaries)) or f"There is no log in {folder}."
        emit({"chains": [_summary_row(one) for one in summaries]}, as_json=json, text=text)
        return
    oldest = 0.0 if since is None else time.time() - seconds_of("--since", since)
    found = [event for event in _events(folder) if event.at_ms >= 1000 * oldest and _is_wanted(event, key, adapter)]
    found.sort(key=lambda event: event.at_ms)
    text = table([_cells(event) for event in found], header=COLUMNS) if found else "There is no such entry."
    emit({"entries": [event.model_dump(mode="json") for event in found]}, as_json=json, text=text)


def _events(folder: Path) -> Iterator["AuditEvent"]:
    from serving.access.audit_files import ASKED, entries_of, event_of, series_in

    for files in series_in(folder).values():
        for entry in entries_of(files):
            event = event_of(entry)
            yield event.model_copy(update={"outcome": "asked for"}) if entry.kind == ASKED else event


def _is_wanted(event: "AuditEvent", key: str | None, adapter: str | None) -> bool:
    names = (event.model, event.adapter, event.answered)
    return (key is None or key in (event.who, event.key_name)) and (adapter is None or adapter in names)


def _cells(event: "AuditEvent") -> tuple[str, ...]:
    from finetune.terminal.output import printable

    outcome = " ".join(part for part in (event.outcome, event.reason, str(event.status or "")) if part)
    if event.num_left_out:
        outcome += f" (and {event.num_left_out} without an entry)"
    tokens = event.prompt_tokens + event.completion_tokens
    cells = (
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(event.at_ms / 1000)),
        event.who,
        event.action,
        event.key_name or event.model,
        event.answered or event.adapter,
        outcome,
        str(tokens) if tokens else "",
        event.request_id,
    )
    return tuple(map(printable, cells))


def _sentence(summary: "Summary") -> str:
    if summary.first is None or summary.last is None:
        return f"{summary.series}: no entries."
    number = "1 entry holds" if summary.num_entries == 1 else f"{summary.num_entries} entries hold"
    text = f"{summary.series}: {number}, {_time(summary.first.at)} to {_time(summary.last.at)}"
    if summary.first.sequence > 1:
        text += f"; the {summary.first.sequence - 1} before were carried away"
    return f"{text}. The newest is {summary.last.sequence}, {summary.last.digest}."


def _summary_row(summary: "Summary") -> dict[str, Any]:
    first, last = summary.first, summary.last
    return {
        "chain": summary.series,
        "entries": summary.num_entries,
        "first": first.sequence if first else None,
        "last": last.sequence if last else None,
        "digest": last.digest if last else None,
    }


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
