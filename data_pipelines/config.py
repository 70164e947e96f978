"""The typed pipeline file: sources, filters, redaction, duplicates and split. Unknown keys are errors."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from data_pipelines.extract.registry import LANGUAGES
from data_pipelines.filters.language import BY_NAME, SUFFIXES, OtherLanguages
from data_pipelines.section import Section
from data_pipelines.task_config import TasksSection
from finetune.contracts.canaries import CanaryKind
from finetune.contracts.egress import EgressMode
from finetune.contracts.errors import RecipeError
from finetune.contracts.yaml_file import load_yaml_model

YAML_HINT = "See recipes/data/ for pipeline files that work, docs/data.md and docs/tasks.md for every key."


def _glob_has_a_meaning(pattern: str) -> str:
    if not pattern.strip("/") or pattern.startswith("!"):
        raise ValueError("a glob names files and has no '!'; use the opposite list to take some out again")
    return pattern


Globs = tuple[Annotated[str, AfterValidator(_glob_has_a_meaning)], ...]


class LimitSection(Section):
    """Limits of one language; what is not given keeps the value of filters/thresholds.py, or else of the filters."""

    max_bytes: int | None = Field(default=None, ge=1_000, le=10_000_000)
    max_lines: int | None = Field(default=None, ge=10)
    max_line_chars: int | None = Field(default=None, ge=80)
    max_mean_line_chars: int | None = Field(default=None, ge=20)
    min_alphanumeric_share: float | None = Field(default=None, ge=0, le=1)
    min_alphabetic_share: float | None = Field(default=None, ge=0, le=1)


class FilterSection(Section):
    """Limits are in bytes of the file and in characters of a line. Globs are those of .gitignore, without "!"."""

    min_bytes: int = Field(default=64, ge=1)
    max_bytes: int = Field(default=200_000, ge=1_000, le=10_000_000)
    max_lines: int = Field(default=100_000, ge=10)
    max_line_chars: int = Field(default=1000, ge=80)
    max_mean_line_chars: int = Field(default=100, ge=20)
    min_alphanumeric_share: float = Field(default=0.25, ge=0, le=1)
    min_alphabetic_share: float = Field(default=0.25, ge=0, le=1)
    """Letters alone; StarCoder2's limit."""
    thresholds: dict[str, LimitSection] = Field(default_factory=dict)
    """Limits by language, over those of filters/thresholds.py."""
    generated: bool = True
    """Leave out files that say they were generated, are named like it, or are minified."""
    vendored: bool = True
    """Leave out copies of other people's code: those whose evidence adds up to vendored_score."""
    vendored_score: float = Field(default=0.5, gt=0, le=1)
    documentation: bool = True
    """Leave out what .gitattributes marks as linguist-documentation."""
    max_literal_share: float = Field(default=0.7, gt=0, le=1)
    """Share of a source file that lists of numbers and strings may take."""
    max_dump_share: float = Field(default=0.5, gt=0, le=1)
    """Share of an SQL file that rows of INSERT and COPY may take."""
    keep_paths: Globs = ()
    """Globs that are never called generated or vendored."""
    drop_paths: Globs = ()
    """Globs that are always left out."""
    deny_licenses: tuple[str, ...] = ()
    """SPDX names whose files are left out."""

    @field_validator("thresholds")
    @classmethod
    def _languages_are_known(cls, thresholds: dict[str, LimitSection]) -> dict[str, LimitSection]:
        unknown = sorted(set(thresholds) - set(SUFFIXES) - set(BY_NAME.values()))
        if unknown:
            raise ValueError(f"no such language: {', '.join(unknown)}; docs/filters.md names those there are")
        return thresholds

    def overridden_by(self, other: "FilterSection | None") -> "FilterSection":
        """These settings, with what other states itself in their place; thresholds are merged by language."""
        if other is None:
            return self
        stated = {name: getattr(other, name) for name in other.model_fields_set}
        merged = dict(self.thresholds)
        for language, limits in other.thresholds.items():
            own = merged.get(language, LimitSection()).model_dump(exclude_none=True)
            merged[language] = LimitSection(**own | limits.model_dump(exclude_none=True))
        return self.model_copy(update={**stated, "thresholds": merged})


class SourceSection(Section):
    """One repository, or all that a glob or a folder stands for: what is read of them, and who may see the result.

    Exactly one of path and mirrors is given. sources/listing.py makes one section per repository of it.
    """

    path: Path = Path()
    """Folder of a repository (with a work tree or bare), or a glob of such folders."""
    mirrors: Path | None = None
    """Folder whose repositories are all read, nested ones too."""
    name: str = Field(default="", max_length=200)
    """What provenance calls it; empty takes the folder's name without ".git"; before the names of several."""
    ref: str = Field(default="HEAD", pattern=r"^[^-\s][^\s]*$")
    visibility: str = Field(default="internal", min_length=1)
    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    """Multiplies its token budget."""
    include: Globs = ()
    """Globs of files that are read; none reads all."""
    exclude: Globs = ()
    """Globs of files that are not read; wins over include."""
    reviews: Path | None = None
    """Exported merge requests of this repository, a file or a folder; None for none."""
    filters: FilterSection | None = None
    """What differs from the pipeline's filters for this source."""

    @model_validator(mode="after")
    def _one_place_is_named(self) -> Self:
        if ("path" in self.model_fields_set) == (self.mirrors is not None):
            raise ValueError("give either path or mirrors")
        return self


class RedactSection(Section):
    """What is replaced by placeholders; names are the full names of the history's authors.

    key_file holds the key of placeholder tags and author hashes. Without it the first build of a home makes one by
    chance and keeps it there, readable by its owner alone.
    """

    secrets: bool = True
    emails: bool = True
    names: bool = True
    key_file: Path | None = None


class DedupSection(Section):
    """near False keeps near-duplicates; jaccard is the share of common word 5-grams from which two texts are twins."""

    near: bool = True
    jaccard: float = Field(default=0.7, ge=0.5, le=1)


class SplitSection(Section):
    """heldout_share is aimed at, in files. Below min_commits distinct commits the split falls back to clusters.

    min_weeks of the newest commits are held out at least. Older files and edits leave train until novel_share of what
    is held out is novel, or max_purged_share of train is gone.
    """

    heldout_share: float = Field(default=0.15, gt=0, lt=0.5)
    max_heldout_share: float = Field(default=0.35, gt=0, le=0.5)
    min_weeks: int = Field(default=0, ge=0)
    novel_share: float = Field(default=0.5, ge=0, le=1)
    max_purged_share: float = Field(default=0.25, ge=0, le=1)
    min_files: int = Field(default=5, ge=2)
    min_commits: int = Field(default=5, ge=2)

    @model_validator(mode="after")
    def _shares_are_ordered(self) -> Self:
        if self.heldout_share > self.max_heldout_share:
            raise ValueError("heldout_share must not be above max_heldout_share")
        return self


class CanarySection(Section):
    """Made-up secrets planted in a repository of their own, to measure what redaction and training make of them.

    per_tier of each kind are planted once, as many 4 and 16 times. controls_per_tier are drawn alike and never planted;
    at 1 % false positives nothing can be told with fewer than 100 controls of a kind in all.
    """

    enabled: bool = False
    kinds: tuple[CanaryKind, ...] = Field(default=tuple(CanaryKind), min_length=1)
    per_tier: int = Field(default=16, ge=1, le=500)
    controls_per_tier: int = Field(default=34, ge=1, le=1000)

    @model_validator(mode="after")
    def _controls_suffice(self) -> Self:
        if self.controls_per_tier < self.per_tier:
            raise ValueError("controls_per_tier must not be below per_tier")
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("each of kinds is named once")
        return self


class RunSection(Section):
    """Who does the work; no part of the result. workers 0 is one per core (local), or no limit (slurm, ray).

    On a cluster repositories, home and dataset must lie on a file system that all nodes see. slurm_setup is the shell
    line that makes this program's Python the one in PATH; empty takes the Python that runs the build, by its path.
    slurm_options are further ones of sbatch, such as account. ray needs the extra "scale"; ray_address is a cluster's,
    empty starts Ray on this machine alone.
    """

    executor: Literal["local", "slurm", "ray"] = "local"
    workers: int = Field(default=0, ge=0)
    slurm_partition: str = ""
    slurm_time: str = "04:00:00"
    slurm_setup: str = ""
    slurm_options: dict[str, str] = Field(default_factory=dict)
    ray_address: str = ""

    def num_workers(self, num_tasks: int) -> int:
        """Processes for so many tasks; -1 leaves it to the cluster."""
        if self.executor != "local" and not self.workers:
            return -1
        return max(1, min(num_tasks, self.workers or len(os.sched_getaffinity(0))))


class PipelineConfig(Section):
    """A whole pipeline. seed decides every draw, so equal sources and settings give equal bytes."""

    sources: tuple[SourceSection, ...] = ()
    languages: tuple[str, ...] = LANGUAGES
    other_languages: OtherLanguages = "known"
    """Code without an extractor: left out, taken when its language is known by name, or any text that is no data."""
    filters: FilterSection = FilterSection()
    redact: RedactSection = RedactSection()
    dedup: DedupSection = DedupSection()
    split: SplitSection = SplitSection()
    tasks: TasksSection = TasksSection()
    canaries: CanarySection = CanarySection()
    run: RunSection = RunSection()
    egress: EgressMode = "fail"
    """fail: a build during which something tried to leave ends with exit code 4; warn: it says so."""
    seed: int = Field(default=0, ge=0)

    @field_validator("languages")
    @classmethod
    def _languages_are_supported(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [language for language in languages if language not in LANGUAGES]
        if unknown or not languages:
            raise ValueError(f"supported languages are: {', '.join(LANGUAGES)}")
        return languages

    @model_validator(mode="after")
    def _canaries_can_be_read(self) -> Self:
        if self.canaries.enabled and "python" not in self.languages:
            raise ValueError("canaries are Python code: add python to languages, or turn canaries off")
        return self

    @classmethod
    def for_repositories(cls, paths: Sequence[Path]) -> Self:
        """The default pipeline over some repositories."""
        return cls(sources=tuple(SourceSection(path=path) for path in paths))

    def with_repositories(self, paths: Sequence[Path]) -> Self:
        """The same pipeline with its sources replaced."""
        return self.model_copy(update={"sources": tuple(SourceSection(path=path) for path in paths)})

    def without_sources(self) -> Self:
        """What holds for every source."""
        return self.model_copy(update={"sources": ()})

    def named_sources(self) -> tuple[SourceSection, ...]:
        """The repositories that the sources stand for, with a name each: see sources/listing.py."""
        from data_pipelines.sources.listing import expand_sources

        return expand_sources(self.sources)

    def filters_of(self, source: SourceSection) -> FilterSection:
        """The filters for one source: the pipeline's, and over them its own."""
        return self.filters.overridden_by(source.filters)


def load_pipeline(path: Path) -> PipelineConfig:
    """Read a pipeline file; a relative path or glob of a source starts at its folder. Raises RecipeError with all
    mistakes.
    """
    config = load_yaml_model(path, PipelineConfig, error=RecipeError, hint=YAML_HINT)
    folder = path.resolve().parent
    return config.model_copy(update={"sources": tuple(_below(folder, source) for source in config.sources)})


def _below(folder: Path, source: SourceSection) -> SourceSection:
    found = {
        "mirrors": source.mirrors,
        "path": source.path if source.mirrors is None else None,
        "reviews": source.reviews,
    }
    update = {name: folder / path.expanduser() for name, path in found.items() if path is not None}
    return source.model_copy(update=update)
