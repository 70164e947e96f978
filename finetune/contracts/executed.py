"""ExecutedSuite: tasks that tests grade, as mining writes them and as evaluation reads them.

A folder: suite.json (ExecutedSuite), tasks.jsonl (an ExecutedTask a line), and trees/<name>/, the repository's files at
a commit without .git. Nothing in it is run outside a jail.
"""

from typing import Literal

from pydantic import Field

from finetune.contracts.dataset import Contract, ReasonCount, Slice

SUITE_NAME = "suite.json"
TASKS_NAME = "tasks.jsonl"
TREES_NAME = "trees"


class FileText(Contract):
    """A file of a tree, path relative to its root; text None: the file is not there."""

    path: str
    text: str | None


class Toolchain(Contract):
    """What runs the tests: runner by name, program as an absolute path, readable folders that the jail shows as well.

    environment is set in the jail on top of its own. version is what the program says of itself.
    """

    runner: Literal["pytest", "javascript", "go", "java"]
    program: str
    readable: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    version: str = ""


class ExecutedTask(Contract):
    """A task. id is a digest of repo, commit, path and span or of the commits, so that mining again gives it again.

    body: the lines first_line to last_line (1-based, inclusive) of path in the tree are a function's body; the answer
    replaces them. commit: the answer is the new text of the files in gold, which the commit changed; tests holds the
    test files as the commit left them. statement is what a model is told. gold is what the author wrote: one
    FileText with the body alone, or the changed files. weak are bodies that must fail (none for commit). fail_to_pass
    and pass_to_pass name tests as the runner spells them. slice says what training knew of it, None if not told.
    """

    id: str
    kind: Literal["body", "commit"]
    language: str
    repo: str
    commit: str
    path: str
    cluster: str
    tree: str
    statement: str
    first_line: int = Field(default=0, ge=0)
    last_line: int = Field(default=0, ge=0)
    gold: tuple[FileText, ...] = Field(min_length=1)
    weak: tuple[str, ...] = ()
    tests: tuple[FileText, ...] = ()
    fail_to_pass: tuple[str, ...] = Field(min_length=1)
    pass_to_pass: tuple[str, ...] = ()
    timeout_seconds: float = Field(gt=0)
    slice: Slice | None = None
    seen: bool = False


class ExecutedSuite(Contract):
    """What a folder of executed tasks is. digest covers tasks.jsonl and the trees; left_out says what was not kept.

    labels_of is the content digest of the dataset by which slice and seen of its tasks were told, "" if by none.
    """

    schema_version: Literal[1] = 1
    digest: str
    toolchains: tuple[Toolchain, ...]
    num_tasks: int = Field(ge=0)
    left_out: tuple[ReasonCount, ...] = ()
    seconds: float = Field(ge=0)
    labels_of: str = ""
