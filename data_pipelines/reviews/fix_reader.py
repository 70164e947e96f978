"""The stage that makes review fixes: what was found in, results for the store out. Runs in worker processes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from weakref import finalize

from pydantic import BaseModel, ConfigDict

from data_pipelines.config import PipelineConfig, SourceSection
from data_pipelines.dedup.minhash import bands_of
from data_pipelines.document import Origin
from data_pipelines.engine.reader import PATH_REASON, PEOPLE_NAME, SETTINGS_NAME, Scan
from data_pipelines.engine.results import ANY_PEOPLE, PeopleList, ReadSettings
from data_pipelines.engine.store import Result, Still, text_digest, write_pack
from data_pipelines.filters.generated import generated_name_reason
from data_pipelines.filters.globs import matches_any
from data_pipelines.filters.language import is_wanted
from data_pipelines.filters.vendored import vendored_reason
from data_pipelines.mine.review_fix import Fix, NoFix, Read, lines_of
from data_pipelines.mine.review_row import FixOrigin, MadeFix, make_fix
from data_pipelines.mine.review_text import instruction
from data_pipelines.redact.form import Form
from data_pipelines.redact.people import People
from data_pipelines.redact.redactor import Redactor, ScanFailed
from data_pipelines.reviews.fix_head import FixHead
from data_pipelines.reviews.found_fixes import read_group
from data_pipelines.sources.git import Repository, open_repository

# marks that no scan gives: the next dictionary tries again
FAILED = "failed"
# the parent adds who wrote it, where and for whom
NOWHERE = FixOrigin("", "", Origin("", 0, ""), None)


class FixItem(BaseModel):
    """The fixes of one commit in one file, as found_fixes keeps them.

    marks: what an earlier dictionary found in their texts, None when they were never read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: int
    key: str
    group: str
    marks: str | None = None


class FixItems(BaseModel):
    """One task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: tuple[FixItem, ...]


def fix_task(stage_folder: Path, number: int, target: Path) -> None:
    """Make the fixes of one task into a pack."""
    items = FixItems.model_validate_json((stage_folder / f"task-{number:05d}.json").read_bytes())
    write_pack(target, _reader(stage_folder).results(items.items))


@lru_cache(maxsize=1)
def _reader(stage_folder: Path) -> "FixReader":
    settings = ReadSettings.model_validate_json((stage_folder / SETTINGS_NAME).read_bytes())
    people = PeopleList.model_validate_json((stage_folder / PEOPLE_NAME).read_bytes())
    return FixReader(settings, people.people())


class FixReader:
    """Everything that a worker needs, made once and kept over its tasks."""

    def __init__(self, settings: ReadSettings, people: People) -> None:
        self._config = settings.config
        self._settings = settings
        self._redactor = Redactor(settings.config.redact, bytes.fromhex(settings.key), people=people)
        self._people = people.digest()
        self._repositories: dict[int, Repository] = {}
        self._open = ExitStack()
        finalize(self, self._open.close)

    def results(self, items: Sequence[FixItem]) -> Iterator[tuple[Result | Still, Sequence[bytes]]]:
        """A result for each item with the texts that it names; or that the one it had still holds."""
        for item in items:
            key, fixes = bytes.fromhex(item.key), read_group(item.group.encode())
            reason, marks = self._checked(item, fixes)
            if not reason and item.marks == marks:
                yield Still(key, self._people), ()
                continue
            scan = Scan(self._redactor)
            head, texts = (FixHead(reason=reason), []) if reason else self._made(item, fixes, scan)
            hits = {} if head.reason else dict(sorted(scan.hits.items()))
            kept = head.model_copy(update={"hits": hits, "marks": marks or ""}).model_dump_json().encode()
            # before and after come last
            bands = b"".join(bands_of(text) for text in texts[-2:])
            people = self._people if marks is not None else ANY_PEOPLE
            yield Result(key, people, kept, bands, reason=head.reason), texts

    def _checked(self, item: FixItem, fixes: Sequence[Fix]) -> tuple[str, str | None]:
        """Why the path cannot be used, "" when it can; and what the dictionary finds, None when it was not asked."""
        path = fixes[0].thread.path
        reason = path_reason(path, self._config, self._settings.sources[item.source])
        if reason:
            return reason, None
        scan = Scan(self._redactor)
        try:
            scan.marks += [self._redactor.marks(text) for text in (path, *_texts(fixes, self._read(item)))]
            hits = self._redactor.redact(path, Form.PROSE).hits
        except ScanFailed as failed:
            return str(failed), FAILED
        return PATH_REASON if hits else "", scan.digest()

    def _made(self, item: FixItem, fixes: Sequence[Fix], scan: Scan) -> tuple[FixHead, list[bytes]]:
        section = self._config.tasks.review_fix
        try:
            made = make_fix(fixes, NOWHERE, read=self._read(item), redactor=scan, section=section)
        except ScanFailed as failed:
            made = NoFix(str(failed))
        except (RecursionError, UnicodeError, ValueError, MemoryError) as cause:
            # one strange file must not end the build
            made = NoFix(f"cannot be read: {type(cause).__name__}")
        return (FixHead(reason=made.reason), []) if isinstance(made, NoFix) else _stored(fixes, made)

    def _read(self, item: FixItem) -> Read:
        if item.source not in self._repositories:
            section = self._settings.sources[item.source]
            opened = open_repository(section.path, name=section.name, ref=self._settings.commits[item.source])
            self._repositories[item.source] = self._open.enter_context(opened)
        max_bytes = self._config.filters_of(self._settings.sources[item.source]).max_bytes
        return partial(self._repositories[item.source].content, max_bytes=max_bytes)


def path_reason(path: str, config: PipelineConfig, source: SourceSection) -> str:
    """Why nothing at a path is used, as far as its name tells; "" when nothing speaks against it."""
    drop = (*source.exclude, *config.filters_of(source).drop_paths)
    checks = (
        (not is_wanted(path, config.languages), "no file of a supported language"),
        (bool(vendored_reason(path) or generated_name_reason(path)), "touches generated or vendored code"),
        (bool(source.include) and not matches_any(path, source.include), "its path is not among include"),
        (matches_any(path, drop), "its path is among exclude or drop_paths"),
    )
    return next((reason for applies, reason in checks if applies), "")


def _texts(fixes: Sequence[Fix], read: Read) -> Iterator[str]:
    change = fixes[0].change
    before = lines_of(change.before, read) or []
    yield "".join(before)
    yield "".join(lines_of(change.after, read) or [])
    yield instruction(fixes, before)


def _stored(fixes: Sequence[Fix], made: MadeFix) -> tuple[FixHead, list[bytes]]:
    row, place = made.row, made.row.provenance[0]
    texts = [text.encode("utf-8") for text in (*(one.text for one in row.segments), made.before, made.after)]
    instruction_, shown, answer, before, after = (text_digest(text).hex() for text in texts)
    head = FixHead(
        language=row.language,
        stratum=row.stratum,
        path=place.path,
        blob=place.blob,
        first_line=place.first_line,
        last_line=place.last_line,
        spans=row.spans,
        requests=tuple(dict.fromkeys(str(fix.thread.request_id) for fix in fixes)),
        instruction=instruction_,
        shown=shown,
        answer=answer,
        before=before,
        after=after,
    )
    return head, texts
