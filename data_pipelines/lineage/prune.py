"""Take what was forgotten out of the work folder of a dataset: out of the store, and whatever was made from it."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from shutil import rmtree

from pydantic import ValidationError

from data_pipelines.config import PipelineConfig
from data_pipelines.engine.reading import Reading
from data_pipelines.engine.results import settings_key
from data_pipelines.engine.store import Store
from data_pipelines.engine.survey import Survey, edit_key, file_key, survey_key
from data_pipelines.engine.work import Work
from data_pipelines.filters.paths import readable_path
from data_pipelines.lineage.forgetting import Forgotten
from data_pipelines.redact.redactor import Redactor
from finetune.contracts.canaries import PLAN_KEY
from finetune.contracts.dataset import DatasetManifest

# what a manifest says beside the pipeline's own settings
NO_SETTINGS = ("rule_pack", "near_duplicates", "forgotten", PLAN_KEY)


@dataclass(frozen=True, slots=True)
class Pruned:
    """Results and texts that went out of the store, and surveys that were deleted."""

    results: int = 0
    texts: int = 0
    surveys: int = 0


def prune_work(work: Work, manifest: DatasetManifest, *, forgotten: Forgotten, key: bytes) -> Pruned:
    """Delete everything in the work folder that may hold forgotten text.

    The store keeps what the files and commits of the last build's sources need that were not forgotten, and nothing
    else: texts of older commits go too, because nobody can tell any more whose they were. Surveys that name something
    forgotten go whole, as do what a teacher answered and everything that a build has made from rows.
    """
    # answers of a teacher are about the code, and do not tell about which
    for folder in (work.parts, work.packs, work.stages, work.answers):
        rmtree(folder, ignore_errors=True)
    work.ledger.unlink(missing_ok=True)
    kept = _Kept(work, manifest, forgotten, key)
    results, texts = 0, 0
    if work.store.is_file():
        with Store(work.store) as store:
            results, texts = store.retain(kept.results())
    surveys = [folder for folder in _folders(work.surveys) if folder.name not in kept.surveys]
    for folder in surveys:
        rmtree(folder)
    return Pruned(results, texts, len(surveys))


def drop_unused(reading: Reading) -> None:
    """Take out of the store what no source holds any more, as after a push over its history.

    Nothing goes while a source cannot be read: what it holds will be asked for again.
    """
    gone = reading.forgotten.repositories
    if all(source.survey is not None or source.section.name in gone for source in reading.sources):
        reading.store.retain(_used(reading))


def _used(reading: Reading) -> Iterator[bytes]:
    for number, survey in reading.surveys():
        yield from (reading.file_key(number, entry) for entry in survey.entries() if not entry.reason)
        yield from (reading.edit_key(number, commit.id) for commit in survey.signatures())
        found = reading.sources[number].reviews
        yield from (reading.fix_key(number, group) for group in (found.groups() if found else ()))


@dataclass
class _Kept:
    """What stays. surveys, by name, is complete when results() has ended."""

    work: Work
    manifest: DatasetManifest
    forgotten: Forgotten
    key: bytes
    surveys: set[str] = field(default_factory=set)

    def results(self) -> Iterator[bytes]:
        """Keys of results."""
        for repo, survey, base, author in self.sources():
            yield from self._of_survey(survey, repo, base=base, author=author)

    def sources(self) -> Iterator[tuple[str, Survey, bytes, Callable[[str], str]]]:
        """Name, survey and settings key of each repository that stays and was surveyed; how authors are hashed."""
        config = _config_of(self.manifest)
        if config is None:
            return
        sections = {section.name: section for section in config.sources}
        author = lru_cache(maxsize=None)(Redactor(config.redact, self.key).author)
        for record in self.manifest.sources:
            section = sections.get(record.repo)
            if section is None or record.repo in self.forgotten.repositories:
                continue
            folder = self.work.surveys / survey_key(config, section, record.commit).hex()
            if folder.is_dir():
                yield record.repo, Survey(folder), settings_key(config, section, self.key), author

    def _of_survey(self, survey: Survey, repo: str, *, base: bytes, author: Callable[[str], str]) -> Iterator[bytes]:
        num_forgotten = 0
        for entry in survey.entries():
            if self.forgotten.raw_reason(repo, [entry.path], author(entry.email)):
                num_forgotten += 1
            else:
                yield file_key(base, entry)
        for commit in survey.candidates():
            paths = [change.path for change in commit.changes]
            if self.forgotten.raw_reason(repo, paths, author(commit.email)):
                num_forgotten += 1
            else:
                yield edit_key(base, commit.id)
        if not num_forgotten:
            self.surveys.add(survey.folder.name)


def authored(work: Work, manifest: DatasetManifest, *, authors: Collection[str], key: bytes) -> set[str]:
    """ "repo:path" of files and "repo:commit" of commits whose authors have these hashes, as the surveys know them."""
    kept = _Kept(work, manifest, Forgotten(), key)
    found: set[str] = set()
    for repo, survey, _, author in kept.sources():
        items = [(entry.email, readable_path(entry.path) or "") for entry in survey.entries()]
        items += [(commit.email, commit.id) for commit in survey.signatures()]
        found |= {f"{repo}:{name}" for email, name in items if author(email) in authors}
    return found


def _config_of(manifest: DatasetManifest) -> PipelineConfig | None:
    """The pipeline of a build from its manifest, without paths; None when another version wrote it."""
    try:
        document = {name: value for name, value in json.loads(manifest.settings).items() if name not in NO_SETTINGS}
        document["redact"] = {**document["redact"], "key_file": None}
        document["redact"].pop("key_name", None)
        # the paths of sources are not told, and nothing depends on them
        document["sources"] = [{**source, "path": source["name"]} for source in document["sources"]]
        return PipelineConfig.model_validate(document)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return None


def _folders(parent: Path) -> list[Path]:
    return sorted(entry for entry in parent.iterdir() if entry.is_dir()) if parent.is_dir() else []
