"""From a repository's history to a folder of executed tasks: commits, newest first, judged by their own tests."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock

from data_pipelines.benchmark.body_task import label_name
from data_pipelines.benchmark.commit_labels import KnownCommits, known_commits, marked
from data_pipelines.benchmark.commit_screen import CommitScreen
from data_pipelines.benchmark.commit_trees import Trees
from data_pipelines.benchmark.commits import Candidate, Texts, candidate_of, check_texts, read_texts
from data_pipelines.benchmark.judgement import INFRASTRUCTURE, Judgement, Left, Unfit, choose
from data_pipelines.benchmark.judging import OneByOne, judge_all
from data_pipelines.benchmark.record import Record
from data_pipelines.benchmark.requests import Requests
from data_pipelines.benchmark.suite_folder import check_target, write_suite
from data_pipelines.benchmark.work import work_beside
from data_pipelines.sinks.target import read_manifest
from data_pipelines.sources.git import Repository, open_repository
from finetune.contracts.executed import ExecutedSuite, ExecutedTask, FileText, Toolchain
from finetune.contracts.io import digest_text
from finetune.execution.jail import Jail
from finetune.execution.runners.registry import RUNNERS
from finetune.terminal.progress import Progress

# raise it when what is judged or how changes: work kept from before is then done again
VERSION = "2"


@dataclass(frozen=True, slots=True)
class MinedCommits:
    """A finished suite. judged counts candidates judged in this run, kept_from_before those of an earlier one.

    labels counts tasks by what training knew of them.
    """

    suite: ExecutedSuite
    labels: Mapping[str, int]
    num_commits: int
    num_candidates: int
    judged: int
    kept_from_before: int
    minutes: float
    infrastructure: int


@dataclass(frozen=True, slots=True)
class Source:
    """A repository and what was made of it. Threads may share it: git's objects are read by one at a time."""

    repository: Repository
    candidates: Mapping[str, Candidate]
    trees: Trees
    lock: Lock = field(default_factory=Lock)

    def texts(self, commit: str) -> Texts:
        """A candidate's files. Raises Unfit."""
        with self.lock:
            return read_texts(self.candidates[commit], self.repository)

    def tree(self, commit: str) -> Path:
        """The tree of a candidate's parent."""
        with self.lock, self._at(f"{commit}^") as parent:
            return self.trees.export(parent, commit)

    def parent(self, commit: str) -> str:
        """The id of a commit's parent."""
        with self._at(f"{commit}^") as parent:
            return parent.commit

    def _at(self, ref: str) -> Repository:
        return open_repository(self.repository.path, name=self.repository.name, ref=ref)


def mine_commits(
    repository: Repository, python: Path, out: Path, *, limit: int | None, jobs: int, dataset: Path | None = None
) -> MinedCommits:
    """Mine commit tasks of the repository's history into out, which is replaced only on success.

    limit: tasks at most, those of the newest commits; None for all. dataset marks those that training on it has seen,
    None leaves all unmarked. Raises InputError when out holds something else, DatasetError for a dataset that was not
    made of this repository.
    """
    began = time.monotonic()
    check_target(out)
    known = None if dataset is None else known_commits(repository, read_manifest(dataset))
    jail, runner = Jail.open(), RUNNERS["pytest"]
    toolchain = runner.toolchain(python)
    told = toolchain.model_dump(mode="json")
    with work_beside(out, "commits", VERSION, repository.name, told) as work:
        left: Left = Counter()
        candidates, num_commits = _candidates(repository, left)
        source = Source(repository, candidates, Trees(work.folder))
        record = Record(work.journal, list(candidates), limit=limit)
        steps = OneByOne(record, partial(_judge, source, CommitScreen(jail, runner, toolchain)))
        judge_all(record, steps, title="Judging commits", jobs=jobs)
        suite, labels = _write(out, source, record, toolchain=toolchain, left=left, began=began, known=known)
    return MinedCommits(
        suite=suite,
        labels=labels,
        num_commits=num_commits,
        num_candidates=len(candidates),
        judged=record.num_fresh,
        kept_from_before=record.num_before,
        minutes=(time.monotonic() - began) / 60,
        infrastructure=sum(count for (stage, _), count in left.items() if stage == INFRASTRUCTURE),
    )


def _candidates(repository: Repository, left: Left) -> tuple[dict[str, Candidate], int]:
    """Candidates by commit, newest first by committer date, and how many commits there are without merges."""
    with Progress("Reading the history", None):
        commits = list(repository.commits())
        requests = Requests(commits)
        found: dict[str, Candidate] = {}
        same = set()
        for commit in sorted(commits, key=lambda commit: -commit.time):
            try:
                one = candidate_of(commit, requests)
            except Unfit as reason:
                left["commits", str(reason)] += 1
                continue
            # a commit that was picked onto another branch, or applied again
            key = (one.request, *(change.path for change in one.sources))
            if key in same:
                left["commits", "asks for the same in the same files as a newer commit"] += 1
            else:
                found[commit.id] = one
            same.add(key)
    if repository.history_damage:
        left["commits", repository.history_damage] += 1
    return found, len(commits)


def _judge(source: Source, screen: CommitScreen, commit: str) -> Judgement:
    try:
        texts = source.texts(commit)
        check_texts(texts)
    except Unfit as reason:
        return Judgement(name=commit, reason=str(reason))
    judged = screen.judge(commit, texts, tree=source.tree(commit))
    if not judged.kept:
        source.trees.remove(commit)
    return judged


def _write(
    out: Path,
    source: Source,
    record: Record,
    *,
    toolchain: Toolchain,
    left: Left,
    began: float,
    known: KnownCommits | None,
) -> tuple[ExecutedSuite, Counter[str]]:
    tasks: list[ExecutedTask] = []
    trees = {}
    for commit in choose(list(record.places), record.done, left=left, limit=record.limit):
        task = _task(source, source.texts(commit), record.done[commit])
        tasks.append(task)
        trees[task.tree] = source.tree(commit)
        left.update({("export", reason): count for reason, count in source.trees.left_out(commit).items()})
    labelled = marked(tasks, known) if known else tasks
    suite = write_suite(
        out,
        labelled,
        trees=trees,
        toolchain=toolchain,
        left=left,
        seconds=time.monotonic() - began,
        labels_of=known.dataset_digest if known else "",
    )
    return suite, Counter(label_name(task) for task in labelled)


def _task(source: Source, texts: Texts, judged: Judgement) -> ExecutedTask:
    repo, parent = source.repository.name, source.parent(judged.name)
    most = max(texts.sources, key=lambda one: (one.num_lines, one.path))
    return ExecutedTask(
        id=digest_text(f"{repo} {parent} {judged.name}")[:16],
        kind="commit",
        language="python",
        repo=repo,
        commit=judged.name,
        path=most.path,
        cluster=f"{repo}:{most.path}",
        tree=parent,
        statement=source.candidates[judged.name].request,
        gold=tuple(FileText(path=one.path, text=one.after) for one in texts.sources),
        tests=texts.tests,
        fail_to_pass=judged.fail_to_pass,
        pass_to_pass=judged.pass_to_pass,
        timeout_seconds=judged.timeout_seconds,
    )
