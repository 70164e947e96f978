"""The filters in order: what a path and a size can tell before a file is read, then what its text tells."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from data_pipelines.config import PipelineConfig
from data_pipelines.document import TreeEntry
from data_pipelines.filters.encoding import decode
from data_pipelines.filters.generated import generated_name_reason, generated_text_reason
from data_pipelines.filters.language import is_wanted, language_of, other_language
from data_pipelines.filters.size import shape_reason, size_reason
from data_pipelines.filters.vendored import vendored_reason

SYMLINK, SUBMODULE = "120000", "160000"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something stays. stage and reason say why not; both are "" for what stays."""

    stage: str = ""
    reason: str = ""

    @property
    def keeps(self) -> bool:
        return not self.reason


KEEP = Verdict()


def readable_path(path: bytes) -> str | None:
    """A path as text; None when it is not UTF-8 or holds control characters, which no tool prints safely."""
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def printable_path(path: bytes) -> str:
    """Any path as text for a report; what cannot be shown is escaped."""
    return readable_path(path) or path.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii")


class FilterChain:
    """The pipeline's filters over one repository. attributes gives "generated" or "vendored" answers of its owner."""

    def __init__(self, config: PipelineConfig, attributes: "Attributes | None" = None) -> None:
        self._config = config
        self._attributes = attributes or Attributes(())

    def by_entry(self, entry: TreeEntry) -> Verdict:
        """What name, mode and size tell."""
        if entry.mode == SYMLINK:
            return Verdict("read", "symbolic link")
        if entry.mode == SUBMODULE:
            return Verdict("read", "submodule")
        path = readable_path(entry.path)
        if path is None:
            return Verdict("read", "path is not printable UTF-8")
        for verdict in (self._by_language(path), self._by_name(path)):
            if not verdict.keeps:
                return verdict
        if entry.bytes < 0:
            return Verdict("read", "object is not in this clone")
        reason = size_reason(entry.bytes, self._config.filters)
        return Verdict("size", reason) if reason else KEEP

    def by_text(self, path: str, content: bytes) -> tuple[str, Verdict]:
        """The text of a file and what it tells; the text is "" when it cannot be decoded."""
        text, reason = decode(content)
        if reason:
            return text, Verdict("encoding", reason)
        verdict = self._by_language(path, text)
        if not verdict.keeps:
            return text, verdict
        reason = shape_reason(text, self._config.filters)
        if reason:
            return text, Verdict("text", reason)
        if self._config.filters.generated and not self._kept(path, "generated"):
            reason = generated_text_reason(text)
            if reason:
                return text, Verdict("generated", reason)
        return text, KEEP

    def _by_language(self, path: str, text: str | None = None) -> Verdict:
        config = self._config
        if is_wanted(path, config.languages, text=text) or other_language(path, config.other_languages):
            return KEEP
        language = language_of(path, text)
        if language is None:
            return Verdict("language", "not source code by its name")
        return Verdict("language", f"language {language} is not supported")

    def _by_name(self, path: str) -> Verdict:
        filters = self._config.filters
        if _matches(path, filters.drop_paths):
            return Verdict("paths", "in drop_paths of the pipeline")
        checks = (
            (filters.generated, "generated", generated_name_reason),
            (filters.vendored, "vendored", vendored_reason),
        )
        for wanted, stage, check in checks:
            if not wanted or self._kept(path, stage):
                continue
            reason = f"{stage}: marked in .gitattributes" if self._attributes.says(path, stage) else check(path)
            if reason:
                return Verdict(stage, reason)
        return KEEP

    def _kept(self, path: str, stage: str) -> bool:
        return _matches(path, self._config.filters.keep_paths) or self._attributes.says(path, stage) is False


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


class Attributes:
    """linguist-generated and linguist-vendored of the top .gitattributes: a later line wins."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self._rules: list[tuple[str, str, bool]] = []
        for line in lines:
            pattern, *words = line.split() or ["#"]
            if not pattern.startswith("#"):
                self._rules += [(pattern, *rule) for word in words if (rule := _attribute(word))]

    def says(self, path: str, stage: str) -> bool | None:
        """True or False as the owner set it, None when nothing was set."""
        answer = None
        for pattern, name, value in self._rules:
            if name == stage and _attribute_matches(path, pattern):
                answer = value
        return answer


def _attribute(word: str) -> tuple[str, bool] | None:
    name, _, value = word.lstrip("-").partition("=")
    for stage in ("generated", "vendored"):
        if name == f"linguist-{stage}":
            return stage, not word.startswith("-") and value.lower() != "false"
    return None


def _attribute_matches(path: str, pattern: str) -> bool:
    if "/" not in pattern:
        return fnmatchcase(path.rsplit("/", 1)[-1], pattern)
    pattern = pattern.lstrip("/")
    return fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern.replace("**/", "*"))
