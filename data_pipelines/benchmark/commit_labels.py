"""Which commits a dataset knows: training on it saw what they changed, so a task made of one may ask for memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from data_pipelines.sources.git import Repository, open_repository
from finetune.contracts.dataset import DatasetManifest
from finetune.contracts.errors import DatasetError, RepositoryError
from finetune.contracts.executed import ExecutedTask

HINT = "Name the repository as the dataset does (--name), and fetch what it was made of."


@dataclass(frozen=True, slots=True)
class KnownCommits:
    """Ids of commits that the dataset of this content digest knows."""

    dataset_digest: str
    ids: frozenset[str]


def known_commits(repository: Repository, manifest: DatasetManifest) -> KnownCommits:
    """The commits, merges left out, that the dataset's head of this repository contains.

    Held-out files count as well: a commit's message and its other files may still be in train. Raises DatasetError
    for a dataset that was not made of this repository, or of a commit that is not in it.
    """
    heads = [source.commit for source in manifest.sources if source.repo == repository.name and source.commit]
    if not heads:
        names = ", ".join(source.repo for source in manifest.sources) or "none"
        raise DatasetError(f"The dataset was not made of {repository.name}; its repositories: {names}.", HINT)
    found: set[str] = set()
    for head in heads:
        try:
            with open_repository(repository.path, name=repository.name, ref=head) as opened:
                found.update(commit.id for commit in opened.commits())
        except RepositoryError as cause:
            raise DatasetError(
                f"The dataset was made of commit {head}, which {repository.path} lacks.", HINT
            ) from cause
    return KnownCommits(manifest.content_digest, frozenset(found))


def marked(tasks: Sequence[ExecutedTask], known: KnownCommits) -> list[ExecutedTask]:
    """The tasks, those of known commits marked as seen."""
    return [task.model_copy(update={"seen": task.commit in known.ids}) for task in tasks]
