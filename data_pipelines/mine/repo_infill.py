"""Infill below the files of the repository that help most, nothing of them learned."""

from data_pipelines.mine.card import FileCard, Load, LoadedFile
from data_pipelines.mine.context import ContextFile
from data_pipelines.mine.excerpt import Leak, excerpt
from data_pipelines.mine.infill import gap_row
from data_pipelines.mine.picks import Gap
from data_pipelines.mine.ranking import ContextIndex, words_near
from data_pipelines.mine.row import Row
from data_pipelines.task_config import RepoInfillSection
from finetune.contracts.dataset import Task

# files that are looked at for each that is shown: some hold the target, or say nothing
SPARE_FILES = 2


def repo_infill_rows(
    loaded: LoadedFile, card: FileCard, *, index: ContextIndex, load: Load, section: RepoInfillSection
) -> list[Row]:
    """A row for each gap that one file at least can be shown for.

    load is called with paths of the index alone. The best file comes last, next to the gap, where rendering keeps it
    longest.
    """
    rows = []
    for gap in loaded.picks.repo_infill:
        shown = context_of(loaded, card, gap=gap, index=index, load=load, section=section)
        if shown:
            rows.append(
                gap_row(
                    loaded.file,
                    loaded.text,
                    gap=gap,
                    section=section,
                    task=Task.REPO_INFILL,
                    context=list(reversed(shown)),
                )
            )
    return rows


def context_of(
    loaded: LoadedFile, card: FileCard, *, gap: Gap, index: ContextIndex, load: Load, section: RepoInfillSection
) -> list[ContextFile]:
    """What a gap is shown of other files, best first."""
    words = words_near(loaded.text, gap.span.start, gap.span.end)
    leak = Leak(loaded.text[gap.span.start : gap.span.end])
    shown: list[ContextFile] = []
    left = section.max_total_context_bytes
    for other in index.rank(card, words, limit=SPARE_FILES * section.max_context_files):
        if len(shown) == section.max_context_files or left < section.max_context_bytes // 4:
            break
        part = excerpt(load(other.path), words=words, leak=leak, max_bytes=min(left, section.max_context_bytes))
        if part is not None:
            shown.append(part)
            left -= len(part.text)
    return shown
