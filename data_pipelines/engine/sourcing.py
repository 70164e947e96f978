"""Open the sources of a build and survey those whose commit was not surveyed yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from data_pipelines.config import PipelineConfig, SourceSection
from data_pipelines.engine.store import key_of
from data_pipelines.engine.survey import Survey, survey_key, without_path, write_survey
from data_pipelines.engine.work import Work
from data_pipelines.executors.run import Stage, run_stage
from data_pipelines.lineage.forgetting import FORGOTTEN_NAME, Forgotten
from data_pipelines.reviews.found_fixes import FoundFixes
from data_pipelines.sources.git import open_repository
from finetune.contracts.dataset import SourceRecord
from finetune.contracts.errors import RepositoryError
from finetune.contracts.io import write_json
from finetune.terminal.progress import Progress

SETTINGS_NAME = "settings.json"


class SurveySettings(BaseModel):
    """What the stage needs: a source and a commit for each task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: PipelineConfig
    sources: tuple[SourceSection, ...]
    commits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source at a commit with its survey. survey None: it could not be opened, and note says why.

    reviews holds what was found in its export; None when it has none.
    """

    section: SourceSection
    commit: str
    survey: Survey | None
    note: str = ""
    reviews: FoundFixes | None = None

    def record(self, more: str = "") -> SourceRecord:
        """The source as the manifest tells of it; more is what else could not be had of it."""
        facts = self.survey.facts if self.survey else None
        found = self.reviews.facts.note if self.reviews else ""
        note = "; ".join(part for part in (self.note, facts.note if facts else "", found, more) if part)
        return SourceRecord(
            repo=self.section.name,
            ref=self.section.ref,
            commit=self.commit,
            visibility=self.section.visibility,
            commits=facts.num_commits if facts else 0,
            files=facts.num_files if facts else 0,
            bytes=facts.num_bytes if facts else 0,
            state="skipped" if facts is None else "partial" if note else "whole",
            note=note,
            weight=self.section.weight,
        )


@dataclass(frozen=True, slots=True)
class Head:
    """A source and the commit its ref leads to. commit "": it could not be opened, or was forgotten; error says why."""

    section: SourceSection
    commit: str
    error: RepositoryError | None = None
    forgotten: bool = False


def find_heads(sections: Sequence[SourceSection]) -> list[Head]:
    """The commit of each source. Raises RepositoryError when not one of them can be opened."""
    heads = []
    for section in sections:
        try:
            with open_repository(section.path, name=section.name, ref=section.ref) as repository:
                heads.append(Head(section, repository.commit))
        except RepositoryError as error:
            heads.append(Head(section, "", error))
    if not any(head.commit for head in heads):
        assert heads[0].error is not None
        raise heads[0].error
    return heads


def without_forgotten(heads: Sequence[Head], forgotten: Forgotten) -> list[Head]:
    """The same, but repositories that were forgotten are not even looked at."""
    error = RepositoryError("Its repository was forgotten.", f"{FORGOTTEN_NAME} of the dataset says so.")
    return [
        Head(head.section, "", error, forgotten=True) if head.section.name in forgotten.repositories else head
        for head in heads
    ]


def survey_sources(
    config: PipelineConfig, heads: Sequence[Head], *, work: Work, progress: Progress
) -> list[OpenSource]:
    """Survey what was not surveyed at its commit yet. A damaged repository is skipped, unless there is no other."""
    opened = [head for head in heads if head.commit]
    targets = tuple(work.surveys / survey_key(config, head.section, head.commit).hex() for head in opened)
    stage = Stage("data_pipelines.engine.sourcing:survey_task", work.stages / f"survey-{_digest(targets)}", targets)
    if stage.missing():
        stage.folder.mkdir(parents=True, exist_ok=True)
        settings = SurveySettings(
            config=config.without_sources(),
            sources=tuple(head.section for head in opened),
            commits=tuple(head.commit for head in opened),
        )
        write_json(stage.folder / SETTINGS_NAME, settings)
        run_stage(
            stage, config.run, tick=lambda number: progress.advance(1, f"history of {opened[number].section.name}")
        )
    surveys = {head.section.name: Survey(target) for head, target in zip(opened, targets, strict=True)}
    sources = [_open_source(head, surveys.get(head.section.name)) for head in heads]
    if not any(source.survey for source in sources):
        raise RepositoryError(sources[0].note, "Name a repository that can be read; `git fsck` tells what is damaged.")
    return sources


def survey_task(stage_folder: Path, number: int, target: Path) -> None:
    """Survey one source. What is damaged beyond use leaves a survey that says so and holds nothing."""
    settings = SurveySettings.model_validate_json((stage_folder / SETTINGS_NAME).read_bytes())
    write_survey(settings.config, settings.sources[number], commit=settings.commits[number], target=target)


def _open_source(head: Head, survey: Survey | None) -> OpenSource:
    if survey is None:
        assert head.error is not None
        return OpenSource(head.section, "", None, without_path(head.error, head.section))
    if survey.facts.error:
        return OpenSource(head.section, head.commit, None, survey.facts.error)
    return OpenSource(head.section, head.commit, survey)


def _digest(targets: Sequence[Path]) -> str:
    return key_of(*(target.name for target in targets)).hex()
