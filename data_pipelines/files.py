"""The pass over a repository's tree: filters, redaction, near-duplicate index, texts into the spool."""

from data_pipelines.config import SourceSection
from data_pipelines.document import Document, Origin, TreeEntry
from data_pipelines.extract.registry import extractor_for
from data_pipelines.filters.chain import FilterChain, Verdict
from data_pipelines.filters.license import license_of_file
from data_pipelines.filters.paths import printable_path, readable_path
from data_pipelines.filters.survey import read_context
from data_pipelines.history import History
from data_pipelines.reading import Reading, Tick, origin_of
from data_pipelines.redact.form import Form, form_of
from data_pipelines.redact.redactor import ScanFailed
from data_pipelines.sources.git import Repository
from finetune.contracts.dataset import DroppedFile


class TreeReader:
    """Reads the files of one repository's head into reading; licenses maps folders to SPDX names, "" is the top."""

    def __init__(
        self,
        repository: Repository,
        source: SourceSection,
        *,
        entries: list[TreeEntry],
        history: History,
        reading: Reading,
    ) -> None:
        self._repository = repository
        self._source = source
        self._entries = entries
        self._history = history
        self._reading = reading
        context = read_context(entries, repository.content, source=source)
        self._chain = FilterChain(reading.config, context, filters=reading.config.filters_of(source))
        self.licenses = context.license_by_folder()

    def read(self, tick: Tick) -> None:
        """Keep or drop every entry; tick is called once for each."""
        for entry in self._entries:
            verdict = self._chain.by_entry(entry)
            if verdict.keeps:
                verdict = self._file(entry)
            if not verdict.keeps:
                self._drop(entry, verdict)
            tick(self._source.name)

    def _file(self, entry: TreeEntry) -> Verdict:
        path = readable_path(entry.path)
        content = self._repository.content(entry.blob, max_bytes=entry.bytes)
        if path is None or content is None:
            return Verdict("read", "object is not in this clone")
        reason = self._reading.path_reason(path)
        if reason:
            return Verdict("redact", reason)
        text, verdict = self._chain.by_text(path, content)
        if not verdict.keeps:
            return verdict
        license_name = license_of_file(path, text, self.licenses)
        if license_name in self._reading.config.filters_of(self._source).deny_licenses:
            return Verdict("license", f"license {license_name} is denied")
        language = self._chain.language(path, text)
        verdict, clean = self._redacted(text, path, language)
        if verdict.keeps:
            self._keep(entry, path, language=language, text=clean, license_name=license_name)
        return verdict

    def _redacted(self, text: str, path: str, language: str) -> tuple[Verdict, bytes]:
        extractor = extractor_for(language)
        before = text.encode("utf-8")
        if not extractor.parses(before):
            return Verdict("parse", f"syntax errors for {language}"), b""
        try:
            after = self._reading.redact(text, form_of(path)).encode("utf-8")
        except ScanFailed as failed:
            return Verdict("redact", str(failed)), b""
        if after != before and not extractor.parses(after):
            return Verdict("redact", "syntax errors after redaction"), b""
        return Verdict(), after

    def _keep(self, entry: TreeEntry, path: str, *, language: str, text: bytes, license_name: str | None) -> None:
        reading = self._reading
        reading.documents.append(
            Document(
                repo=self._source.name,
                visibility=self._source.visibility,
                path=path,
                blob=entry.blob,
                language=language,
                origin=self._origin(entry),
                license=license_name,
                text=reading.spool.append(text),
                unit=reading.index.add(text),
                bytes=len(text),
            )
        )

    def _origin(self, entry: TreeEntry) -> Origin:
        # content that only a merge made has no commit of its own: it is as new as the head
        commit = self._history.last.get(entry.path) or self._history.head
        if commit is None:
            return Origin(self._repository.commit, 0, self._reading.redactor.author(""))
        return origin_of(commit, self._reading.redactor)

    def _drop(self, entry: TreeEntry, verdict: Verdict) -> None:
        self._reading.dropped.add(
            DroppedFile(
                repo=self._source.name,
                commit=self._repository.commit,
                path=self._shown_path(entry),
                stage=verdict.stage,
                reason=verdict.reason,
                bytes=max(0, entry.bytes),
            )
        )

    def _shown_path(self, entry: TreeEntry) -> str:
        try:
            return self._reading.redactor.redact(printable_path(entry.path), Form.PROSE).text
        except ScanFailed:
            return ""
