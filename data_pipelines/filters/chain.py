"""The filters in order: what a path and a size can tell before a file is read, then what its text tells."""

from dataclasses import dataclass

from data_pipelines.config import FilterSection, PipelineConfig
from data_pipelines.document import TreeEntry
from data_pipelines.extract.registry import LANGUAGES
from data_pipelines.filters.context import PathContext, RepositoryContext
from data_pipelines.filters.data import dump_reason, table_reason
from data_pipelines.filters.encoding import decode
from data_pipelines.filters.generated import (
    encoded_reason,
    generated_name_reason,
    generated_text_reason,
    is_lock_file,
    minified_reason,
)
from data_pipelines.filters.globs import matches_any
from data_pipelines.filters.header import header_evidence
from data_pipelines.filters.language import DATA, is_wanted, language_of, other_language
from data_pipelines.filters.paths import is_too_long, leads_outside, printable_path, readable_path
from data_pipelines.filters.size import shape_of, shape_reason, size_reason
from data_pipelines.filters.thresholds import Limits, limits_of
from data_pipelines.filters.vendored import Evidence, reason_of, score_of

NO_FILES = {"120000": "symbolic link", "160000": "submodule"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something stays. stage and reason say why not; both are "" for what stays."""

    stage: str = ""
    reason: str = ""

    @property
    def keeps(self) -> bool:
        return not self.reason


KEEP = Verdict()
__all__ = ["KEEP", "FilterChain", "Verdict", "printable_path", "readable_path"]


class FilterChain:
    """The filters of one pipeline over one source: verdicts depend on settings, path, content and place alone.

    filters are those of the source, None takes the pipeline's. place is what context.for_path gives for a path; without
    it the chain asks the context that it was made with.
    """

    def __init__(
        self,
        config: PipelineConfig,
        context: RepositoryContext | None = None,
        *,
        filters: FilterSection | None = None,
    ) -> None:
        self._languages = config.languages
        self._other = config.other_languages
        self._filters = filters or config.filters
        self._context = context or RepositoryContext()
        self._limits: dict[str, Limits] = {}

    def by_entry(self, entry: TreeEntry, place: PathContext | None = None) -> Verdict:
        """What name, mode and size tell."""
        if entry.mode in NO_FILES:
            return Verdict("read", NO_FILES[entry.mode])
        path = readable_path(entry.path)
        if path is None:
            return Verdict("read", "path is not printable UTF-8")
        if leads_outside(path) or is_too_long(entry.path):
            return Verdict(
                "read", "path is too long" if is_too_long(entry.path) else "path leads outside of its folder"
            )
        place = place or self._context.for_path(path)
        verdict = self._by_name(path, place)
        return self._by_size(path, entry.bytes, place) if verdict.keeps else verdict

    def by_path(self, path: str, place: PathContext) -> Verdict:
        """What the name alone tells, whatever lies there now: for files of commits."""
        if place.license in self._filters.deny_licenses:
            return Verdict("license", f"license {place.license} is denied")
        return self._by_name(path, place)

    def _by_size(self, path: str, num_bytes: int, place: PathContext) -> Verdict:
        if num_bytes < 0:
            return Verdict("read", "object is not in this clone")
        max_bytes = self._limits_of(self.language(path, place=place)).max_bytes
        reason = size_reason(num_bytes, self._filters, max_bytes=max_bytes)
        return Verdict("size", reason) if reason else KEEP

    def by_text(self, path: str, content: bytes, place: PathContext | None = None) -> tuple[str, Verdict]:
        """The text of a file and what it tells; the text is "" when it cannot be decoded."""
        place = place or self._context.for_path(path)
        text, reason = decode(content)
        if reason:
            return text, Verdict("encoding", reason)
        language = self.language(path, text, place=place)
        # only a text tells which language a ".h" is in
        if language in LANGUAGES and language not in self._languages:
            return text, Verdict("language", f"language {language} is not supported")
        verdict = self._by_shape(text, content, language=language, seeks_generated=self._seeks_generated(path, place))
        if verdict.keeps:
            verdict = self._by_owner(path, place, header_evidence(text, place))
        return text, verdict

    def language(self, path: str, text: str | None = None, *, place: PathContext | None = None) -> str:
        """The language of a file as rows carry it: what .gitattributes says wins; "" for none."""
        place = place or self._context.for_path(path)
        if place.attributes.language:
            return place.attributes.language
        return other_language(path, self._other) or language_of(path, text) or ""

    def _by_name(self, path: str, place: PathContext) -> Verdict:
        if place.excluded:
            return Verdict("paths", place.excluded)
        if matches_any(path, self._filters.drop_paths):
            return Verdict("paths", "in drop_paths of the pipeline")
        if is_lock_file(path):
            return Verdict("generated", "generated: lock file")
        for verdict in (self._by_language(path, place), self._by_attributes(place)):
            if not verdict.keeps:
                return verdict
        if self._seeks_generated(path, place):
            reason = "generated: marked in .gitattributes" if place.attributes.generated else None
            reason = reason or generated_name_reason(path)
            if reason:
                return Verdict(_stage(reason), reason)
        return self._by_owner(path, place, [])

    def _by_language(self, path: str, place: PathContext) -> Verdict:
        language = place.attributes.language
        if language:
            other = language not in LANGUAGES and language not in DATA and self._other != "none"
            wanted = language in self._languages or other
        else:
            wanted = is_wanted(path, self._languages) or other_language(path, self._other) is not None
            language = language_of(path)
        if wanted:
            return KEEP
        if language is None:
            return Verdict("language", "not source code by its name")
        return Verdict("language", f"language {language} is not supported")

    def _by_attributes(self, place: PathContext) -> Verdict:
        attributes = place.attributes
        if attributes.is_binary:
            return Verdict("encoding", "marked binary in .gitattributes")
        if attributes.detectable is False:
            return Verdict("language", "marked not detectable in .gitattributes")
        if attributes.documentation and self._filters.documentation:
            return Verdict("documentation", "documentation: marked in .gitattributes")
        return KEEP

    def _by_shape(self, text: str, content: bytes, *, language: str, seeks_generated: bool) -> Verdict:
        shape = shape_of(text)
        reason = minified_reason(text, language, mean_line_chars=shape.mean_line_chars) if seeks_generated else None
        if reason:
            return Verdict(_stage(reason), reason)
        reason = generated_text_reason(text, language) if seeks_generated else None
        if reason:
            return Verdict("generated", reason)
        reason = encoded_reason(content) if seeks_generated else None
        if reason:
            return Verdict("generated", reason)
        if language == "sql":
            reason = dump_reason(content, max_share=self._filters.max_dump_share)
        else:
            reason = table_reason(content, max_share=self._filters.max_literal_share)
        if reason:
            return Verdict("data", reason)
        reason = shape_reason(shape, self._limits_of(language))
        return Verdict("text", reason) if reason else KEEP

    def _by_owner(self, path: str, place: PathContext, more: list[Evidence]) -> Verdict:
        marked = place.attributes.vendored
        if not self._filters.vendored or marked is False or matches_any(path, self._filters.keep_paths):
            return KEEP
        if marked:
            return Verdict("vendored", "vendored: marked in .gitattributes")
        evidence = [*place.evidence, *more]
        return Verdict("vendored", reason_of(evidence)) if score_of(evidence) >= self._filters.vendored_score else KEEP

    def _seeks_generated(self, path: str, place: PathContext) -> bool:
        kept = place.attributes.generated is False or matches_any(path, self._filters.keep_paths)
        return self._filters.generated and not kept

    def _limits_of(self, language: str) -> Limits:
        if language not in self._limits:
            self._limits[language] = limits_of(language, self._filters)
        return self._limits[language]


def _stage(reason: str) -> str:
    """ "minified" or "generated", with which the reason begins."""
    return reason.partition(":")[0]
