"""The tasks of the pipeline file, a section each."""

from typing import Self

from pydantic import Field, model_validator

from data_pipelines.section import Section
from finetune.contracts.dataset import Task


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


class ReviewFixSection(TaskSection):
    """Review comments of min_comment_chars that a later commit answers within max_lines_apart of their line.

    The other limits are as in commit_edit, but of a file larger than max_before_bytes the lines around the fix are
    shown. Sources without reviews give no such rows.
    """

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


class QaSection(TaskSection):
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
    """The tasks. repository_budget: learned bytes that a repository of weight 1 gives to train; None is no bound."""

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
    repository_budget: int | None = Field(default=None, ge=1)

    def weights(self) -> dict[Task, float]:
        """The weight of each task."""
        return {Task(name): section.weight for name, section in self if isinstance(section, TaskSection)}
