"""The typed pipeline file: sources, filters, redaction, duplicates, split and tasks. Unknown keys are errors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from data_pipelines.extract.registry import LANGUAGES
from data_pipelines.filters.language import OtherLanguages
from finetune.contracts.dataset import Task
from finetune.contracts.errors import RecipeError
from finetune.contracts.yaml_file import load_yaml_model

YAML_HINT = "See recipes/data/ for pipeline files that work, and docs/data.md for every key."


def _glob_has_a_meaning(pattern: str) -> str:
    if not pattern.strip("/") or pattern.startswith("!"):
        raise ValueError("a glob names files and has no '!'; use the opposite list to take some out again")
    return pattern


Globs = tuple[Annotated[str, AfterValidator(_glob_has_a_meaning)], ...]


class Section(BaseModel):
    """Base of every section: frozen, extra keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LimitSection(Section):
    """Limits of one language; what is not given keeps the value of filters/thresholds.py, or else of the filters."""

    path: Path
    name: str = Field(default="", max_length=200)
    """What provenance calls it; empty takes the folder's name without ".git"."""
    ref: str = Field(default="HEAD", pattern=r"^[^-\s][^\s]*$")
    visibility: str = Field(default="internal", min_length=1)
    reviews: Path | None = None
    """Exported merge requests of this repository, a file or a folder; None for none."""


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
    thresholds: dict[str, LimitSection] = {}
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
            raise ValueError(f"no such language: {', '.join(unknown)}; docs/data.md names those there are")
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
    filters: FilterSection | None = None
    """What differs from the pipeline's filters for this source."""

    @model_validator(mode="after")
    def _one_place_is_named(self) -> Self:
        if ("path" in self.model_fields_set) == (self.mirrors is not None):
            raise ValueError("give either path or mirrors")
        return self


class RedactSection(Section):
    """What is replaced by placeholders; names are the full names of the history's authors.

    key_file holds the key of placeholder tags and author hashes. Without it the key is taken from the head commits of
    the sources: who has the repositories can compute it, who has the dataset alone cannot, and it changes with each
    new head.
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


class StrataSection(Section):
    """Weights of the kinds of spans; 0 leaves a kind out."""

    block: float = Field(default=0.25, ge=0)
    statement: float = Field(default=0.20, ge=0)
    call: float = Field(default=0.15, ge=0)
    line: float = Field(default=0.20, ge=0)
    tail: float = Field(default=0.10, ge=0)
    random: float = Field(default=0.10, ge=0)

    @model_validator(mode="after")
    def _one_is_positive(self) -> Self:
        if not sum((self.block, self.statement, self.call, self.line, self.tail, self.random)):
            raise ValueError("one stratum at least needs a weight above 0")
        return self


class TaskSection(Section):
    """What every task has. weight is the share of its train rows that is kept, drawn by their ids."""

    enabled: bool = True
    weight: float = Field(default=1.0, ge=0, le=1)


class GapSection(TaskSection):
    """One row per bytes_per_row of a file, at most max_rows_per_file. Targets are in bytes."""

    bytes_per_row: int = Field(default=1200, ge=100)
    max_rows_per_file: int = Field(default=8, ge=1)
    min_target_bytes: int = Field(default=8, ge=1)
    max_target_bytes: int = Field(default=800, ge=16)
    strata: StrataSection = StrataSection()


class WindowSection(GapSection):
    """Gaps with text before and after them, in bytes."""

    max_prefix_bytes: int = Field(default=6000, ge=200)
    max_suffix_bytes: int = Field(default=3000, ge=0)


class InfillSection(WindowSection):
    """Gaps in a file."""

    context_share: float = Field(default=0.25, ge=0, le=1)
    """Share of rows that get files which this one imports as context."""
    max_context_files: int = Field(default=2, ge=1)
    max_context_bytes: int = Field(default=2000, ge=100)
    """Of each context file."""


class RepoInfillSection(WindowSection):
    """Gaps below the files of the repository that help most to fill them; a row has one such file at least."""

    bytes_per_row: int = Field(default=3000, ge=100)
    max_rows_per_file: int = Field(default=2, ge=1)
    min_target_bytes: int = Field(default=20, ge=1)
    max_context_files: int = Field(default=4, ge=1)
    max_context_bytes: int = Field(default=2000, ge=100)
    """Of each context file."""
    max_total_context_bytes: int = Field(default=6000, ge=100)


class SearchReplaceSection(GapSection):
    """A file with a marked gap, of which max_window_bytes are shown, to the block that fills it."""

    bytes_per_row: int = Field(default=3000, ge=100)
    max_rows_per_file: int = Field(default=1, ge=1)
    strata: StrataSection = StrataSection(block=0.3, statement=0.3, call=0, line=0.2, tail=0.2, random=0)
    max_window_bytes: int = Field(default=8000, ge=500)


class DocstringSection(TaskSection):
    """Functions whose docstring has min_doc_chars and whose code has min_body_lines to max_body_lines."""

    max_rows_per_file: int = Field(default=6, ge=1)
    min_doc_chars: int = Field(default=20, ge=1)
    min_body_lines: int = Field(default=3, ge=1)
    max_body_lines: int = Field(default=80, ge=1)


class DescribeSection(DocstringSection):
    """The same functions the other way round, share of those that qualify."""

    max_rows_per_file: int = Field(default=1, ge=1)
    share: float = Field(default=0.25, ge=0, le=1)


class TestsSection(TaskSection):
    """Functions with tests that name them: what is shown of the function's file and what is learned, in bytes."""

    max_rows_per_file: int = Field(default=3, ge=1)
    max_tests_per_row: int = Field(default=3, ge=1)
    max_test_bytes: int = Field(default=3000, ge=200)
    """Of all tests of a row."""
    max_source_bytes: int = Field(default=6000, ge=200)
    max_head_bytes: int = Field(default=1500, ge=0)
    """Of the test file above its first test."""


class CommitEditSection(TaskSection):
    """Commits of at most max_files code files, max_hunks and max_changed_lines, over max_before_bytes of text."""

    max_rows_per_source: int = Field(default=600, ge=1)
    max_files: int = Field(default=5, ge=1)
    max_hunks: int = Field(default=15, ge=1)
    max_changed_lines: int = Field(default=200, ge=1)
    max_before_bytes: int = Field(default=20_000, ge=500)


class PretrainSection(TaskSection):
    """Files in an order in which imports come first, in rows of at most max_bytes."""

    max_bytes: int = Field(default=64_000, ge=500)


class ReviewFixSection(Section):
    """Review comments of min_comment_chars that a later commit answers within max_lines_apart of their line.

    The other limits are as in commit_edit, but of a file larger than max_before_bytes the lines around the fix are
    shown. Sources without reviews give no such rows.
    """

    enabled: bool = True
    max_rows_per_source: int = Field(default=600, ge=1)
    min_comment_chars: int = Field(default=15, ge=1)
    max_lines_apart: int = Field(default=60, ge=0)
    max_hunks: int = Field(default=15, ge=1)
    max_changed_lines: int = Field(default=200, ge=1)
    max_before_bytes: int = Field(default=20_000, ge=500)


class TeacherSection(Section):
    """A model behind an OpenAI-compatible endpoint, url being what comes before "/chat/completions".

    key_variable names the environment variable that holds the key, None sends none. Only loopback and private addresses
    are spoken to; allow_host names the one other host that may be.
    """

    url: str = Field(pattern=r"^https?://[^\s/@]+(?:/[^\s@?#]*)?$")
    model: str = Field(min_length=1)
    max_tokens: int = Field(default=700, ge=16, le=16_384)
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int = Field(default=0, ge=0)
    timeout_seconds: float = Field(default=120.0, gt=0, le=3600)
    key_variable: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    allow_host: str | None = None


class QaSection(Section):
    """Questions that a teacher asks and answers about the sources; without a teacher there are none.

    Of each source at most max_seeds_per_source places are asked about. min_agreement is the share of the words of an
    answer that a second answer, given from the cited lines alone, must have too.
    """

    teacher: TeacherSection | None = None
    max_seeds_per_source: int = Field(default=200, ge=1)
    max_shown_lines: int = Field(default=120, ge=15)
    min_answer_chars: int = Field(default=60, ge=1)
    max_answer_chars: int = Field(default=2400, ge=100)
    max_cited_lines: int = Field(default=60, ge=1)
    max_copied_share: float = Field(default=0.5, ge=0, le=1)
    min_agreement: float = Field(default=0.3, ge=0, le=1)


class TasksSection(Section):
    """All tasks."""

    infill: InfillSection = InfillSection()
    repo_infill: RepoInfillSection = RepoInfillSection()
    docstring: DocstringSection = DocstringSection()
    describe: DescribeSection = DescribeSection()
    search_replace: SearchReplaceSection = SearchReplaceSection()
    tests: TestsSection = TestsSection()
    commit_edit: CommitEditSection = CommitEditSection()
    pretrain: PretrainSection = PretrainSection()
    review_fix: ReviewFixSection = ReviewFixSection()
    qa: QaSection = QaSection()


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
    seed: int = Field(default=0, ge=0)

    @field_validator("languages")
    @classmethod
    def _languages_are_supported(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [language for language in languages if language not in LANGUAGES]
        if unknown or not languages:
            raise ValueError(f"supported languages are: {', '.join(LANGUAGES)}")
        return languages

    @classmethod
    def for_repositories(cls, paths: Sequence[Path]) -> Self:
        """The default pipeline over some repositories."""
        return cls(sources=tuple(SourceSection(path=path) for path in paths))

    def with_repositories(self, paths: Sequence[Path]) -> Self:
        """The same pipeline with its sources replaced."""
        return self.model_copy(update={"sources": tuple(SourceSection(path=path) for path in paths)})

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
    sources = tuple(
        source.model_copy(
            update={
                "path": folder / source.path.expanduser(),
                "reviews": folder / source.reviews.expanduser() if source.reviews else None,
            }
        )
        for source in config.sources
    )
    return config.model_copy(update={"sources": sources})
