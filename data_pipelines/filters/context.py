"""What the filters know of a repository as a whole, and the part of it that matters for one path."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from pydantic import TypeAdapter

from data_pipelines.extract.paths import folders_above
from data_pipelines.filters.attributes import NOTHING, AttributeRule, Attributes, attributes_of
from data_pipelines.filters.globs import matches_any
from data_pipelines.filters.vendored import Evidence, path_evidence, spread_evidence

# a copy is brought in and then left alone; in 22 public repositories this told contributors from copies
MAINTAINED_COMMITS = 5


@dataclass(frozen=True, slots=True)
class PathContext:
    """All that the filters know of one path but the file itself: small and hashable, a key of cached results.

    license is that of the nearest licence file. holders and licenses are digests and SPDX names of the repository's
    own headers; is_clear says that one holder stands in nearly all of them, is_maintained that the file was changed so
    often that another holder in its header is a contributor. excluded is the reason of the source's include and
    exclude, "" when the path is read.
    """

    attributes: Attributes = NOTHING
    license: str | None = None
    excluded: str = ""
    evidence: tuple[Evidence, ...] = ()
    holders: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()
    is_clear: bool = False
    is_maintained: bool = False

    def digest(self) -> str:
        """SHA-256 of it all: equal in every process, as hash() is not."""
        return _digest(self)


PLACE = TypeAdapter(PathContext)


@dataclass(frozen=True)
class RepositoryContext:
    """One repository as its filters see it; made once by read_context, then a value that workers may be sent.

    licenses maps folders to SPDX names (None: a licence that is not known), "" is the top; folders holds what a
    licence file or manifest in a folder says about all below it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    rules: tuple[AttributeRule, ...] = ()
    licenses: tuple[tuple[str, str | None], ...] = ()
    folders: tuple[tuple[str, Evidence], ...] = ()
    own_holders: tuple[str, ...] = ()
    own_licenses: tuple[str, ...] = ()
    is_clear: bool = False
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What could not be used, for the report: such as rules of .gitattributes beyond the limit."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_licenses", dict(self.licenses))
        by_folder: dict[str, list[Evidence]] = {}
        for folder, evidence in self.folders:
            by_folder.setdefault(folder, []).append(evidence)
        object.__setattr__(self, "_folders", by_folder)

    def for_path(
        self, path: str, *, num_repositories_with_blob: int = 1, num_local_commits: int | None = None
    ) -> PathContext:
        """What matters for path. The rest is evidence from outside: sources whose head has the same blob, and commits
        that changed the file after the one that added it (None: not counted).
        """
        folders = folders_above(path)
        found = path_evidence(path) + self._inherited(folders)
        found += spread_evidence(num_repositories_with_blob, num_local_commits)
        return PathContext(
            attributes=attributes_of(path, self.rules),
            license=self._nearest_license(folders),
            excluded=self._excluded(path),
            evidence=tuple(sorted(found)),
            holders=self.own_holders,
            licenses=self.own_licenses,
            is_clear=self.is_clear,
            is_maintained=(num_local_commits or 0) >= MAINTAINED_COMMITS,
        )

    def digest(self) -> str:
        """SHA-256 of all that may change a verdict."""
        return _digest(self)

    def license_by_folder(self) -> Mapping[str, str | None]:
        """SPDX names by folder, "" is the top."""
        return dict(self.licenses)

    def _excluded(self, path: str) -> str:
        if matches_any(path, self.exclude):
            return "in exclude of the source"
        return "" if not self.include or matches_any(path, self.include) else "not in include of the source"

    def _inherited(self, folders: Sequence[str]) -> list[Evidence]:
        by_folder: dict[str, list[Evidence]] = self._folders  # type: ignore[attr-defined]
        strongest: dict[str, Evidence] = {}
        for folder in folders:
            for evidence in by_folder.get(folder, ()):
                known = strongest.get(evidence.reason)
                if known is None or known.weight < evidence.weight:
                    strongest[evidence.reason] = evidence
        return list(strongest.values())

    def _nearest_license(self, folders: Sequence[str]) -> str | None:
        licenses: dict[str, str | None] = self._licenses  # type: ignore[attr-defined]
        return next((licenses[folder] for folder in folders if folder in licenses), None)


def _digest(context: PathContext | RepositoryContext) -> str:
    return hashlib.sha256(repr(context).encode("utf-8", "surrogateescape")).hexdigest()


@lru_cache(maxsize=1024)
def place_text(place: PathContext) -> str:
    """A PathContext as JSON: equal places give equal texts."""
    return PLACE.dump_json(place).decode("utf-8")


@lru_cache(maxsize=1024)
def read_place(text: str) -> PathContext:
    """What place_text wrote. Raises pydantic.ValidationError for anything else."""
    return PLACE.validate_json(text)
