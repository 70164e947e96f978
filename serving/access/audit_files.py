"""The files of the log of who asked what: one chain for each server of a home, and one for the changes of its keys.

A chain lies in files that follow one another, each named by the number of its first entry. Older ones may be carried
away; what is there holds together all the same.
"""

import logging
import os
import pwd
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError

from finetune.contracts.chain import HINT, Chain, Entry, checked_entries
from finetune.contracts.dataset import Contract
from finetune.contracts.errors import RunError
from finetune.contracts.io import disk_errors

LOGGER = logging.getLogger("serving")
AUDIT_NAME = "audit"
KEYS_SERIES = "keys"
FILE_NAME = re.compile(r"(?P<series>[a-z0-9-]+)-(?P<first>\d{12})\.jsonl", re.ASCII)
# Kinds of entries: a server starts and stops, a change is asked for before it is made, a request is over, entries
# are missing, a key was changed
STARTED, STOPPED, ASKED, REQUEST, GAP, KEY = "started", "stopped", "asked", "request", "gap", "key"


class AuditEvent(Contract):
    """One decision. "" and 0: not known, or does not apply.

    at_ms is in milliseconds since 1970, when the request came. who is a key's name or "oidc:" and a person's subject,
    key_id says which of the keys of that name; of a change of keys, who is a user of this machine, and key_name and
    key_id are what was changed. model is the name that was asked for or changed, adapter what was named
    to be served under it, answered the id of the version that answered or that the name stands for since. num_left_out
    counts the refusals and listings of the same caller before this one that have no entry of their own. prompts are
    there where the server was told to keep them.
    """

    at_ms: int
    who: str = ""
    key_id: str = ""
    key_name: str = ""
    action: str
    request_id: str = ""
    model: str = ""
    adapter: str = ""
    answered: str = ""
    status: int = 0
    outcome: str = ""
    reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    num_left_out: int = 0
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """What a check of one chain found: its first and its newest entry, None where there is none."""

    series: str
    num_entries: int
    first: Entry | None
    last: Entry | None


def file_name(series: str, first: int) -> str:
    """Of the file whose first entry has that number."""
    return f"{series}-{first:012d}.jsonl"


def series_in(folder: Path) -> dict[str, list[Path]]:
    """The files of each chain, the oldest first; folder is where a home keeps its log."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        named = FILE_NAME.fullmatch(path.name)
        if named:
            found.setdefault(named["series"], []).append(path)
    return found


def entries_of(files: list[Path]) -> Iterator[Entry]:
    """The entries of a chain, checked one by one. A last line that is being written is passed over.

    Where older files were carried away, the chain begins with the first that is there. Raises RunError naming a line
    that was altered.
    """
    after = None
    for number, path in enumerate(files):
        if number == 0:
            after = _before(path)
        for entry in checked_entries(path, _whole_lines(path), after=after):
            after = entry
            yield entry


def summary_of(series: str, files: list[Path]) -> Summary:
    """Check a chain from end to end. Raises RunError naming a line that was altered."""
    first = last = None
    num_entries = 0
    for entry in entries_of(files):
        first, last, num_entries = first or entry, entry, num_entries + 1
    return Summary(series, num_entries, first, last)


def event_of(entry: Entry) -> AuditEvent:
    """What an entry says. Raises RunError for one that a newer version of this program wrote."""
    try:
        return AuditEvent.model_validate(entry.body)
    except ValidationError as cause:
        raise RunError(
            f"Entry {entry.sequence} of the log says what this version does not know.", "Use the version that wrote it."
        ) from cause


def body_of(event: AuditEvent) -> dict[str, JsonValue]:
    """What an entry holds of an event: what is so, and nothing else."""
    return event.model_dump(mode="json", exclude_defaults=True)


def note_key_change(folder: Path, action: str, *, key_name: str, key_id: str) -> None:
    """Write down, at once, that a user of this machine changes a key; folder is where the home keeps its log.

    Raises MachineError where the disk refuses, RunError when the chain of such changes was altered.
    """
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    with disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now_ms = time.time_ns() // 1_000_000
    event = AuditEvent(at_ms=now_ms, who=f"user:{user}", action=action, key_name=key_name, key_id=key_id)
    with Chain(folder / file_name(KEYS_SERIES, 1), notice=LOGGER.warning).open() as record:
        record.append(KEY, body_of(event))


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                yield line


def _before(path: Path) -> Entry | None:
    """What a chain whose first file is path goes on after; None: it begins there."""
    line = next(_whole_lines(path), None)
    if line is None:
        return None
    try:
        first = Entry.model_validate_json(line)
    except ValidationError as cause:
        raise RunError(f"{path}:1: the record is damaged: this is no entry.", HINT) from cause
    if first.sequence == 1:
        return None
    return first.model_copy(update={"sequence": first.sequence - 1, "digest": first.previous})
