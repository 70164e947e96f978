"""One look over a repository before its files are filtered: attributes, licences, whose copyright its headers name."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from data_pipelines.config import SourceSection
from data_pipelines.document import TreeEntry
from data_pipelines.extract.paths import folders_above
from data_pipelines.filters.attributes import ATTRIBUTES_NAME, read_rules
from data_pipelines.filters.context import RepositoryContext
from data_pipelines.filters.header import (
    UNKNOWN_LICENSE,
    bare_license,
    header_of,
    holder_digest,
    holders_of,
    licenses_of,
)
from data_pipelines.filters.language import DATA, language_of
from data_pipelines.filters.license import MAX_LICENSE_BYTES, is_license_name, license_of_text
from data_pipelines.filters.paths import readable_path
from data_pipelines.filters.vendored import (
    MANIFEST,
    OTHER_LICENSE_FILE,
    SAME_LICENSE_FILE,
    STRONG,
    Evidence,
    is_manifest_name,
    path_evidence,
    score_of,
)

MAX_ATTRIBUTES_BYTES = 100_000
# no real tree comes near; a hostile one would have us read and parse gigabytes of them
MAX_ATTRIBUTE_FILES, MAX_LICENSE_FILES = 1000, 5000
MAX_SAMPLE_FILES = 200
MAX_SAMPLE_BYTES = 200_000
# who stands in a tenth of the headers is one of the owners; in a repository of a few people each is
MIN_OWN_SHARE = 0.1
MIN_AUTHOR_SHARE = 0.01
# from here on a header without the common holder is foreign by itself
CLEAR_SHARE, MIN_CLEAR_HEADERS = 0.8, 10
# a licence in the folder that holds most of the code is the repository's own
MAX_FOREIGN_SHARE = 0.5
# what a repository without a licence of its own keeps under one came from elsewhere
FIRST_LICENSE_FILE = 0.5


class Content(Protocol):
    """Repository.content."""

    def __call__(self, blob: str, *, max_bytes: int) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class _License:
    """What a licence file says: SPDX name, None for one we do not know, and digests of the holders."""

    blob: str
    name: str | None
    holders: frozenset[str]

    def is_own(self, holders: set[str], names: set[str]) -> bool:
        """Whether it says what the repository itself says."""
        says_same = self.name is None or bare_license(self.name) in names
        return says_same and (not self.holders or not self.holders.isdisjoint(holders))

    def weight(self, names: set[str]) -> float:
        """How much it says against the code beside it; the same licence from another holder may be a contributor's."""
        if not names:
            return FIRST_LICENSE_FILE
        return SAME_LICENSE_FILE if self.name and bare_license(self.name) in names else OTHER_LICENSE_FILE


def read_context(
    entries: Sequence[TreeEntry], content: Content, *, source: SourceSection, authors: Iterable[str] = ()
) -> RepositoryContext:
    """The context of a repository: reads its .gitattributes and licence files, and the headers of up to
    MAX_SAMPLE_FILES files spread over the tree. authors are names whose copyright is the repository's own, too, as
    main_authors gives them.
    """
    blobs = {
        path: entry
        for entry in entries
        if entry.mode.startswith("100") and entry.bytes >= 0 and (path := readable_path(entry.path)) is not None
    }
    attribute_files = [path for path in blobs if path.rsplit("/", 1)[-1] == ATTRIBUTES_NAME]
    license_files = [path for path in blobs if is_license_name(path)]
    rules, num_ignored = read_rules(_attribute_texts(attribute_files[:MAX_ATTRIBUTE_FILES], blobs, content))
    licenses = _licenses(license_files[:MAX_LICENSE_FILES], blobs, content)
    code = [path for path in blobs if language_of(path) not in {None, *DATA}]
    headers = _headers(code, blobs, content)
    tops = [found for path, found in licenses.items() if "/" not in path]
    holders = Counter(holder for header in headers for holder in holders_of(header))
    num_held = sum(bool(holders_of(header)) for header in headers)
    own_holders = _common(holders, num_held) | {holder for found in tops for holder in found.holders}
    # "the shop authors" are those of a repository called shop
    own_holders |= {digest for name in (*authors, *source.name.split("/")) if (digest := holder_digest(name))}
    own_licenses = _own_licenses(headers, tops)
    return RepositoryContext(
        include=source.include,
        exclude=source.exclude,
        rules=rules,
        licenses=_by_folder(licenses),
        folders=tuple(sorted(_folder_evidence(code, blobs, licenses, holders=own_holders, names=own_licenses))),
        own_holders=tuple(sorted(own_holders)),
        own_licenses=tuple(sorted(own_licenses)),
        is_clear=num_held >= MIN_CLEAR_HEADERS and max(holders.values()) >= CLEAR_SHARE * num_held,
        notes=_notes(
            (num_ignored, "rules of .gitattributes"),
            (len(attribute_files) - MAX_ATTRIBUTE_FILES, ".gitattributes files"),
            (len(license_files) - MAX_LICENSE_FILES, "licence files"),
        ),
    )


def main_authors(num_commits_by_name: Mapping[str, int]) -> tuple[str, ...]:
    """Names with at least MIN_AUTHOR_SHARE of all commits, sorted: a new contributor changes no context."""
    least = MIN_AUTHOR_SHARE * sum(num_commits_by_name.values())
    return tuple(sorted(name for name, count in num_commits_by_name.items() if count >= least))


def _notes(*too_many: tuple[int, str]) -> tuple[str, ...]:
    return tuple(f"{count} {what} are too many and were not used" for count, what in too_many if count > 0)


def _attribute_texts(paths: Iterable[str], blobs: Mapping[str, TreeEntry], content: Content) -> dict[str, str]:
    return {path.rpartition("/")[0]: _text(blobs[path], content, max_bytes=MAX_ATTRIBUTES_BYTES) for path in paths}


def _licenses(paths: Iterable[str], blobs: Mapping[str, TreeEntry], content: Content) -> dict[str, _License]:
    known: dict[str, _License] = {}
    found = {}
    for path in paths:
        blob = blobs[path].blob
        if blob not in known:
            text = _text(blobs[path], content, max_bytes=MAX_LICENSE_BYTES)
            known[blob] = _License(blob, license_of_text(text), holders_of(text))
        found[path] = known[blob]
    return found


def _headers(code: Sequence[str], blobs: Mapping[str, TreeEntry], content: Content) -> list[str]:
    own = [path for path in code if blobs[path].bytes <= MAX_SAMPLE_BYTES and score_of(path_evidence(path)) < STRONG]
    step = -(-len(own) // MAX_SAMPLE_FILES) or 1
    return [header_of(_text(blobs[path], content, max_bytes=MAX_SAMPLE_BYTES)) for path in own[::step]]


def _common(counts: Counter[str], total: int) -> set[str]:
    return {name for name, count in counts.items() if count >= MIN_OWN_SHARE * total}


def _own_licenses(headers: Iterable[str], tops: Iterable[_License]) -> set[str]:
    given = [names for header in headers if (names := licenses_of(header))]
    own = _common(Counter(name for names in given for name in names), len(given))
    return own | {bare_license(found.name) if found.name else UNKNOWN_LICENSE for found in tops}


def _by_folder(licenses: Mapping[str, _License]) -> tuple[tuple[str, str | None], ...]:
    found: dict[str, str | None] = {}
    for path, license_file in licenses.items():
        folder = path.rpartition("/")[0]
        found[folder] = found.get(folder) or license_file.name
    return tuple(sorted(found.items()))


def _folder_evidence(
    code: Sequence[str],
    blobs: Mapping[str, TreeEntry],
    licenses: Mapping[str, _License],
    *,
    holders: set[str],
    names: set[str],
) -> set[tuple[str, Evidence]]:
    num_below = Counter(folder for path in code for folder in folders_above(path) if folder)
    tops = {found.blob for path, found in licenses.items() if "/" not in path}
    evidence = {
        (path.rpartition("/")[0], Evidence("licence file of its own", found.weight(names)))
        for path, found in licenses.items()
        if found.blob not in tops and not found.is_own(holders, names)
    }
    evidence |= {
        (path.rpartition("/")[0], Evidence("manifest of its own", MANIFEST)) for path in blobs if _is_inner(path)
    }
    return {item for item in evidence if item[0] and num_below[item[0]] <= MAX_FOREIGN_SHARE * len(code)}


def _is_inner(path: str) -> bool:
    return "/" in path and is_manifest_name(path)


def _text(entry: TreeEntry, content: Content, *, max_bytes: int) -> str:
    found = content(entry.blob, max_bytes=max_bytes) if entry.bytes <= max_bytes else None
    return found.decode("utf-8", "replace") if found else ""
