"""Questions in a build: after the split, places are drawn from the files of each source, and a teacher is asked."""

from contextlib import suppress
from pathlib import Path

from data_pipelines.config import PipelineConfig
from data_pipelines.engine.reading import Reading
from data_pipelines.engine.store import key_of
from data_pipelines.engine.work import Work
from data_pipelines.engine.writer import PART_NAME, Part
from data_pipelines.executors.run import Stage, run_stage
from data_pipelines.mine.row import BUILDER
from data_pipelines.questions.answers import FileAnswers
from data_pipelines.questions.qa_asking import ASKS_NAME, AskTasks
from data_pipelines.questions.qa_seeding import TASKS_NAME, VERSION, SeedTasks
from data_pipelines.questions.teacher import Teacher
from finetune.contracts.errors import DatasetError, MachineError
from finetune.contracts.io import digest_file, read_model, write_json


def check_teacher(config: PipelineConfig, work: Work) -> None:
    """Raises InputError, before anything is read, for a teacher that may not be spoken to or whose key is not there."""
    qa = config.tasks.qa
    if qa.enabled and qa.teacher is not None:
        # one that is only away for now costs the questions alone, and the build tells of it
        with suppress(MachineError):
            Teacher(qa.teacher, FileAnswers(work.answers))


def ask_everything(reading: Reading, folder: Path) -> list[Path]:
    """The parts of questions, one for each source with files; none without a teacher.

    folder is that of the stage that writes, with its lists of files and edits. What the teacher could not be asked is
    noted with the source, so that the next build asks again.
    """
    qa = reading.config.tasks.qa
    if not qa.enabled or qa.teacher is None:
        return []
    # nobody asks about code that was made up
    numbers = tuple(number for number, _ in reading.surveys() if number != reading.planted)
    seeds = tuple(reading.work.surveys / _seed_key(reading, folder, number).hex() for number in numbers)
    write_json(folder / TASKS_NAME, SeedTasks(sources=numbers))
    _run(reading, Stage("data_pipelines.questions.qa_seeding:seed_task", folder, seeds), "places to ask about")
    # answers decide what is in a part, so each build puts it together anew
    parts = tuple(folder / f"questions-{number:05d}" for number in numbers)
    write_json(folder / ASKS_NAME, AskTasks(sources=numbers, seeds=seeds, answers=reading.work.answers))
    _run(reading, Stage("data_pipelines.questions.qa_asking:ask_task", folder, parts), "asking")
    for number, part in zip(numbers, parts, strict=True):
        note = read_model(part / PART_NAME, Part, error=DatasetError, hint="Run the same command again.").note
        if note:
            reading.notes[number] = note
    reading.lasting += [folder.name for folder in seeds]
    return list(parts)


def _seed_key(reading: Reading, folder: Path, number: int) -> bytes:
    lists = (digest_file(folder / f"{kind}-{number:05d}.parquet") for kind in ("files", "edits"))
    qa, name = reading.config.tasks.qa, reading.sources[number].section.name
    return key_of(
        "seeds", VERSION, BUILDER, name, *lists, qa.max_seeds_per_source, qa.max_shown_lines, reading.config.seed
    )


def _run(reading: Reading, stage: Stage, what: str) -> None:
    reading.progress.total = reading.progress.done + len(stage.missing())
    run_stage(stage, reading.config.run, tick=lambda _: reading.progress.advance(1, what))
