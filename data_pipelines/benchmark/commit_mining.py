"""From a repository's history to a folder of executed tasks: commits, newest first, judged by their own tests."""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from data_pipelines.benchmark.commit_labels import KnownCommits, known_commits, marked
from data_pipelines.benchmark.commit_screen import CommitScreen, JudgedCommit
from data_pipelines.benchmark.commit_trees import Trees
from data_pipelines.benchmark.commits import Candidate, Texts, Unfit, candidate_of, check_texts, read_texts
from data_pipelines.benchmark.journal import Journal
from data_pipelines.benchmark.requests import Requests
from data_pipelines.benchmark.suite_folder import check_target, write_suite
from data_pipelines.sinks.target import read_manifest
from data_pipelines.sources.git import Repository, open_repository
from finetune.contracts.errors import InputError
from finetune.contracts.executed import ExecutedSuite, ExecutedTask, FileText, Toolchain
from finetune.contracts.io import digest_json, digest_text, sole_writer
from finetune.execution.jail import Jail
from finetune.execution.runners.registry import RUNNERS
from finetune.terminal.progress import Progress

# raise it when what is judged or how changes: work kept from before is then done again
VERSION = "1"
Left = Counter[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class MinedCommits:
    """A finished suite. judged counts candidates judged in this run, kept_from_before those of the journal."""

    suite: ExecutedSuite
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
    key = digest_json([VERSION, repository.name, toolchain.model_dump(mode="json")])[:16]
    folder = out.absolute().with_name(f".{out.name}.mining") / f"commits-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    busy = InputError(f"Another process mines into {out} right now.", "Wait for it, or name another folder.")
    with sole_writer(folder / "lock", busy):
        left: Left = Counter()
        candidates, num_commits = _candidates(repository, left)
        source = Source(repository, candidates, Trees(folder))
        journal = Journal(folder / "commits.jsonl", JudgedCommit)
        done, fresh = _judge_all(source, CommitScreen(jail, runner, toolchain), journal, limit=limit, jobs=jobs)
        chosen = choose(list(candidates), done, left=left, limit=limit)
        suite = _write(out, source, chosen, done=done, toolchain=toolchain, left=left, began=began, known=known)
    return MinedCommits(
        suite=suite,
        num_commits=num_commits,
        num_candidates=len(candidates),
        judged=fresh,
        kept_from_before=len(done) - fresh,
        minutes=(time.monotonic() - began) / 60,
        infrastructure=sum(count for (stage, _), count in left.items() if stage == "infrastructure"),
    )


def choose(order: Sequence[str], done: Mapping[str, JudgedCommit], *, left: Left, limit: int | None) -> list[str]:
    """The commits that become tasks: the first limit in order. Each other one is counted in left by reason."""
    chosen: list[str] = []
    for commit in order:
        one = done.get(commit)
        if one is None:
            left["screen", "not judged: --limit was reached"] += 1
        elif not one.kept:
            left["infrastructure" if one.broken else "screen", one.broken[:120] or one.reason] += 1
        elif limit is not None and len(chosen) >= limit:
            left["screen", "kept by screening, beyond --limit"] += 1
        else:
            chosen.append(commit)
    return chosen


def enough(kept: Collection[int], following: int, *, limit: int | None) -> bool:
    """Whether limit commits are kept of those ahead of following, the place of the next one to be judged."""
    return limit is not None and sum(place < following for place in kept) >= limit


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


def _judge_all(
    source: Source, screen: CommitScreen, journal: Journal[JudgedCommit], *, limit: int | None, jobs: int
) -> tuple[dict[str, JudgedCommit], int]:
    """What came of each candidate, and how many were judged now."""
    order = {commit: place for place, commit in enumerate(source.candidates)}
    done = {one.commit: one for one in journal.finished() if one.commit in order}
    waiting = [commit for commit in reversed(order) if commit not in done]
    kept = {order[commit] for commit, one in done.items() if one.kept}
    fresh = 0
    with (
        journal.writing() as stream,
        Progress("Judging commits", len(order), start_at=len(done)) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        running: set[Future[JudgedCommit]] = set()
        try:
            while running or (waiting and not enough(kept, order[waiting[-1]], limit=limit)):
                while waiting and len(running) < jobs and not enough(kept, order[waiting[-1]], limit=limit):
                    running.add(pool.submit(_judge, source, screen, waiting.pop()))
                future = next(as_completed(running))
                running.remove(future)
                one = future.result()
                done[one.commit] = one
                fresh += 1
                if not one.broken:  # the infrastructure's failures are tried again
                    stream.write(one.model_dump_json() + "\n")
                    stream.flush()
                if one.kept:
                    kept.add(order[one.commit])
                progress.advance(detail=f"{len(kept):,} tasks")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done, fresh


def _judge(source: Source, screen: CommitScreen, commit: str) -> JudgedCommit:
    try:
        texts = source.texts(commit)
        check_texts(texts)
    except Unfit as reason:
        return JudgedCommit(commit=commit, reason=str(reason))
    judged = screen.judge(commit, texts, tree=source.tree(commit))
    if not judged.kept:
        source.trees.remove(commit)
    return judged


def _write(
    out: Path,
    source: Source,
    chosen: Sequence[str],
    *,
    done: Mapping[str, JudgedCommit],
    toolchain: Toolchain,
    left: Left,
    began: float,
    known: KnownCommits | None,
) -> ExecutedSuite:
    tasks: list[ExecutedTask] = []
    trees = {}
    for commit in chosen:
        task = _task(source, source.texts(commit), done[commit])
        tasks.append(task)
        trees[task.tree] = source.tree(commit)
        left.update({("export", reason): count for reason, count in source.trees.left_out(commit).items()})
    return write_suite(
        out,
        marked(tasks, known) if known else tasks,
        trees=trees,
        toolchain=toolchain,
        left=left,
        seconds=time.monotonic() - began,
        labels_of=known.dataset_digest if known else "",
    )


def _task(source: Source, texts: Texts, judged: JudgedCommit) -> ExecutedTask:
    repo, parent = source.repository.name, source.parent(judged.commit)
    most = max(texts.sources, key=lambda one: (one.num_lines, one.path))
    return ExecutedTask(
        id=digest_text(f"{repo} {parent} {judged.commit}")[:16],
        kind="commit",
        language="python",
        repo=repo,
        commit=judged.commit,
        path=most.path,
        cluster=f"{repo}:{most.path}",
        tree=parent,
        statement=source.candidates[judged.commit].request,
        gold=tuple(FileText(path=one.path, text=one.after) for one in texts.sources),
        tests=texts.tests,
        fail_to_pass=judged.fail_to_pass,
        pass_to_pass=judged.pass_to_pass,
        timeout_seconds=judged.timeout_seconds,
    )
