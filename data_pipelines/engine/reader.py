"""The stage that reads: a file or a commit in, a result for the store out. Runs in worker processes."""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from weakref import finalize

from data_pipelines.dedup.minhash import bands_of
from data_pipelines.document import Change, Commit, Units
from data_pipelines.engine.edits import EditMaker, Unusable
from data_pipelines.engine.results import (
    ANY_PEOPLE,
    EditHead,
    EditItem,
    EditSide,
    FileHead,
    FileItem,
    Items,
    PeopleList,
    ReadSettings,
)
from data_pipelines.engine.store import Result, Still, text_digest, write_pack
from data_pipelines.extract.registry import extractor_for
from data_pipelines.filters.chain import FilterChain, Verdict
from data_pipelines.filters.context import read_place
from data_pipelines.filters.encoding import decode
from data_pipelines.filters.language import language_of
from data_pipelines.filters.license import license_of_file
from data_pipelines.mine.message import normalise
from data_pipelines.mine.pick import pick
from data_pipelines.redact.form import Form, form_of
from data_pipelines.redact.people import People
from data_pipelines.redact.redactor import Redacted, Redactor, ScanFailed
from data_pipelines.sources.git import Repository, open_repository
from data_pipelines.split.functions import functions_of, pack_functions
from data_pipelines.split.leakage import requests_of

SETTINGS_NAME, PEOPLE_NAME = "settings.json", "people.json"
PATH_REASON = "the path holds a secret, or the name or address of a person"
# texts of commits follow one another: what one commit leaves is what an earlier one finds, and both name the same paths
SIDES_KEPT, BLOBS_KEPT, PATHS_KEPT = 256, 64, 1024
# each is a git process that waits; files of one repository follow one another
REPOSITORIES_OPEN = 8
# no setting allows a larger file; a file's own limit was looked at before it came here
MAX_BLOB_BYTES = 10_000_000
NOTHING = Redacted("", Counter())


def read_task(stage_folder: Path, number: int, target: Path) -> None:
    """Read the items of one task into a pack."""
    items = Items.model_validate_json((stage_folder / f"task-{number:05d}.json").read_bytes())
    reader = _reader(stage_folder)
    write_pack(target, reader.results(items.items))


@lru_cache(maxsize=1)
def _reader(stage_folder: Path) -> "Reader":
    settings = ReadSettings.model_validate_json((stage_folder / SETTINGS_NAME).read_bytes())
    people = PeopleList.model_validate_json((stage_folder / PEOPLE_NAME).read_bytes())
    return Reader(settings, people.people())


@dataclass
class Scan:
    """Redacts the texts of one item, and gathers what was found in them."""

    redactor: Redactor
    hits: Counter[str] = field(default_factory=Counter)
    marks: list[bytes] = field(default_factory=list)

    def redact(self, text: str, form: Form) -> str:
        """The text without secrets and persons. Raises ScanFailed."""
        done = self.redactor.redact(text, form)
        self.hits.update(done.hits)
        self.marks.append(done.marks)
        return done.text

    def digest(self) -> str:
        """The marks of all texts in one word; "" when no person was found."""
        found = b"".join(b"%d:%s" % (place, mark) for place, mark in enumerate(self.marks) if mark)
        return sha256(found).hexdigest()[:32] if found else ""


@dataclass(frozen=True, slots=True)
class ReadFile:
    """What reading a file gave; everything but the head is empty for one that is left out."""

    head: FileHead
    text: bytes = b""
    picks: bytes = b""
    functions: bytes = b""


@dataclass(frozen=True, slots=True)
class EditText:
    """One side of an edit: why it cannot be used, or its redacted text."""

    reason: str
    redacted: Redacted = NOTHING


def left_out(verdict: Verdict) -> ReadFile:
    """A file that is not used."""
    return ReadFile(FileHead(stage=verdict.stage, reason=verdict.reason))


def _why_not(language: str, before: bytes, after: bytes) -> Verdict:
    """Why a file has syntax errors: its own, or those that redaction made."""
    if before != after and extractor_for(language).parses(before):
        return Verdict("redact", "syntax errors after redaction")
    return Verdict("parse", f"syntax errors for {language}")


class Reader:
    """Everything that a worker needs, made once and kept over its tasks."""

    def __init__(self, settings: ReadSettings, people: People) -> None:
        self._config = settings.config
        self._settings = settings
        self._redactor = Redactor(settings.config.redact, bytes.fromhex(settings.key), people=people)
        self._people = people.digest()
        self._repositories: OrderedDict[int, Repository] = OrderedDict()
        finalize(self, _close, self._repositories)
        self._chains: dict[int, FilterChain] = {}
        self._sides: OrderedDict[tuple[int, str, str], EditText] = OrderedDict()
        self._redacted_path = lru_cache(maxsize=PATHS_KEPT)(partial(self._redactor.redact, form=Form.PROSE))

    def results(self, items: Sequence[FileItem | EditItem]) -> Iterator[tuple[Result | Still, Sequence[bytes]]]:
        """A result for each item, with the texts that it names; or that the one it had still holds."""
        for item in items:
            if item.marks is not None and self._marks(item) == item.marks:
                yield Still(bytes.fromhex(item.key), self._people), ()
            else:
                yield self._file(item) if isinstance(item, FileItem) else self._edit(item)

    def _marks(self, item: FileItem | EditItem) -> str | None:
        """What the dictionary finds in the texts of an item, in the order in which they are read; None if unknown."""
        scan = Scan(self._redactor)
        try:
            for text in self._texts(item):
                scan.marks.append(self._redactor.marks(text))
        except (ScanFailed, UnicodeError):
            return None
        return scan.digest()

    def _texts(self, item: FileItem | EditItem) -> Iterator[str]:
        repository = self._repository(item.source)
        if isinstance(item, FileItem):
            yield item.path
            yield decode(repository.content(item.blob, max_bytes=MAX_BLOB_BYTES) or b"")[0]
            return
        yield from (path for path, _, _ in item.changes)
        for change in item.changes:
            for blob in change[1:]:
                yield decode(repository.content(blob, max_bytes=MAX_BLOB_BYTES) or b"")[0]
        yield normalise(item.message) or ""

    def _file(self, item: FileItem) -> tuple[Result, Sequence[bytes]]:
        scan = Scan(self._redactor)
        try:
            found = self._read_file(item, scan)
        except ScanFailed as failed:
            found = ReadFile(FileHead(stage="redact", reason=str(failed)))
        except (RecursionError, UnicodeError, ValueError, MemoryError) as cause:
            # one strange file must not end the build
            found = ReadFile(FileHead(stage="read", reason=f"cannot be read: {type(cause).__name__}"))
        people = self._people if scan.marks else ANY_PEOPLE
        hits = {} if found.head.reason else dict(sorted(scan.hits.items()))
        head = found.head.model_copy(update={"hits": hits, "marks": scan.digest()})
        bands = bands_of(found.text) if found.text else b""
        key = bytes.fromhex(item.key)
        result = Result(key, people, head.model_dump_json().encode(), bands, found.picks, found.functions, head.reason)
        return result, [found.text] if found.text else []

    def _read_file(self, item: FileItem, scan: Scan) -> "ReadFile":
        chain, place = self._chain(item.source), read_place(item.place)
        content = self._repository(item.source).content(item.blob, max_bytes=MAX_BLOB_BYTES)
        if content is None:
            return left_out(Verdict("read", "object is not in this clone"))
        text, verdict = chain.by_text(item.path, content, place)
        license_name = license_of_file(text, place.license)
        if verdict.keeps and license_name in self._config.filters_of(self._settings.sources[item.source]).deny_licenses:
            verdict = Verdict("license", f"license {license_name} is denied")
        if not verdict.keeps:
            return left_out(verdict)
        if self._path_hits(item.path, scan):
            return ReadFile(FileHead(stage="redact", reason=PATH_REASON, path_hit=True))
        language = chain.language(item.path, text, place=place)
        clean = scan.redact(text, form_of(item.path)).encode("utf-8")
        units = extractor_for(language).units(clean)
        if not units.parses:
            return left_out(_why_not(language, text.encode("utf-8"), clean))
        return self._picked(item, clean, units=units, language=language, license_name=license_name)

    def _picked(
        self, item: FileItem, text: bytes, *, units: Units, language: str, license_name: str | None
    ) -> "ReadFile":
        config = self._config
        picks = pick(
            text,
            path=item.path,
            blob=item.blob,
            units=units,
            extractor=extractor_for(language),
            tasks=config.tasks,
            seed=config.seed,
        )
        functions = pack_functions(text, functions_of(text, units, language=language))
        head = FileHead(language=language, license=license_name, text=text_digest(text).hex(), bytes=len(text))
        return ReadFile(head, text, picks.to_bytes(), functions)

    def _edit(self, item: EditItem) -> tuple[Result, Sequence[bytes]]:
        scan = Scan(self._redactor)
        texts: list[bytes] = []
        bands = b""
        try:
            head, texts, bands = self._read_edit(item, scan)
        except (Unusable, ScanFailed) as unusable:
            head = EditHead(reason=str(unusable))
        except (RecursionError, UnicodeError, ValueError, MemoryError) as cause:
            head = EditHead(reason=f"cannot be read: {type(cause).__name__}")
        hits = {} if head.reason else dict(sorted(scan.hits.items()))
        kept = head.model_copy(update={"hits": hits, "marks": scan.digest()})
        people = self._people if scan.marks else ANY_PEOPLE
        content = kept.model_dump_json().encode()
        return Result(bytes.fromhex(item.key), people, content, bands, reason=head.reason), texts

    def _read_edit(self, item: EditItem, scan: Scan) -> tuple[EditHead, list[bytes], bytes]:
        changes = tuple(Change(path.encode(), "M", before, after) for path, before, after in item.changes)
        commit = Commit(item.commit, 0, "", "", item.message, changes)
        for path, _, _ in item.changes:
            if self._path_hits(path, scan):
                raise Unusable(PATH_REASON)
        maker = EditMaker(
            self._config,
            content=lambda blob: self._edit_blob(item.source, blob),
            side=lambda blob, path: self._side(item.source, blob, path=path, scan=scan),
            redact=scan.redact,
        )
        edit = maker.make(commit)
        texts = [edit.answer.encode("utf-8")]
        sides, bands = [], []
        for file in edit.files:
            before, after = file.before.encode("utf-8"), file.after.encode("utf-8")
            texts += [before, after]
            bands += [_cached_bands(before), _cached_bands(after)]
            sides.append(
                EditSide(
                    path=file.path,
                    before=text_digest(before).hex(),
                    after=text_digest(after).hex(),
                    after_blob=file.after_blob,
                    num_lines_after=len(file.after.splitlines()),
                )
            )
        head = EditHead(
            language=edit.language,
            message=edit.message,
            requests=requests_of(item.message),
            answer=text_digest(texts[0]).hex(),
            files=tuple(sides),
        )
        return head, texts, b"".join(bands)

    def _side(self, source: int, blob: str, *, path: str, scan: Scan) -> str:
        """The redacted text of one side of an edit. Raises Unusable, ScanFailed."""
        place = source, blob, path
        known = self._sides.get(place)
        if known is None:
            known = self._sides[place] = self._read_side(source, blob, path)
            if len(self._sides) > SIDES_KEPT:
                self._sides.popitem(last=False)
        if known.reason:
            raise Unusable(known.reason)
        scan.hits.update(known.redacted.hits)
        scan.marks.append(known.redacted.marks)
        return known.redacted.text

    def _read_side(self, source: int, blob: str, path: str) -> "EditText":
        content = self._edit_blob(source, blob)
        if content is None:
            return EditText("a file after the commit is too large, or missing")
        text, reason = decode(content)
        if reason:
            return EditText(reason)
        redacted = self._redactor.redact(text, form_of(path))
        if not extractor_for(language_of(path, redacted.text) or "").parses(redacted.text.encode("utf-8")):
            return EditText("syntax errors before or after the commit")
        return EditText("", redacted)

    def _edit_blob(self, source: int, blob: str) -> bytes | None:
        max_bytes = 4 * self._config.tasks.commit_edit.max_before_bytes
        return _cached_content(self._repository(source), blob, max_bytes)

    def _path_hits(self, path: str, scan: Scan) -> bool:
        found = self._redacted_path(path)
        scan.marks.append(found.marks)
        return bool(found.hits)

    def _repository(self, source: int) -> Repository:
        if source not in self._repositories:
            if len(self._repositories) == REPOSITORIES_OPEN:
                self._repositories.popitem(last=False)[1].__exit__(None, None, None)
            section = self._settings.sources[source]
            opened = open_repository(section.path, name=section.name, ref=self._settings.commits[source])
            self._repositories[source] = opened
        return self._repositories[source]

    def _chain(self, source: int) -> FilterChain:
        if source not in self._chains:
            section = self._settings.sources[source]
            self._chains[source] = FilterChain(self._config, filters=self._config.filters_of(section))
        return self._chains[source]


def _close(repositories: OrderedDict[int, Repository]) -> None:
    for repository in repositories.values():
        repository.__exit__(None, None, None)


@lru_cache(maxsize=SIDES_KEPT)
def _cached_bands(text: bytes) -> bytes:
    return bands_of(text)


@lru_cache(maxsize=BLOBS_KEPT)
def _cached_content(repository: Repository, blob: str, max_bytes: int) -> bytes | None:
    return repository.content(blob, max_bytes=max_bytes)
