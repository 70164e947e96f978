"""Rows of one file in memory, as a build makes them: picked first, and then written out."""

from dataclasses import dataclass

import pyarrow.parquet as pq

from data_pipelines.document import Origin
from data_pipelines.mine.docstring import docstring_rows
from data_pipelines.mine.infill import infill_rows
from data_pipelines.mine.pick import pick
from data_pipelines.sinks.rows import ExampleFile
from data_pipelines.task_config import TasksSection
from finetune.contracts.dataset import Example, Split

ORIGIN = Origin("c" * 40, 7, "author")


@dataclass(frozen=True, slots=True)
class File:
    """A Source."""

    path: str
    language: str
    repo: str = "shop"
    visibility: str = "team"
    blob: str = "b" * 40
    origin: Origin = ORIGIN
    license: str | None = "MIT"


def picks_of(file, text, *, units, extractor, seed=0, **sections):
    """What becomes rows, with sections of tasks in place of their defaults."""
    return pick(
        text,
        path=file.path,
        blob=file.blob,
        units=units,
        extractor=extractor,
        tasks=TasksSection(**sections),
        seed=seed,
    )


def infill_of(file, text, *, units, extractor, section, seed=0):
    """The infill rows of a file."""
    gaps = picks_of(file, text, units=units, extractor=extractor, seed=seed, infill=section).infill
    return infill_rows(file, text, gaps=gaps, section=section)


def docstrings_of(file, text, *, units, extractor, section, seed=0):
    """The docstring rows of a file."""
    picks = picks_of(file, text, units=units, extractor=extractor, seed=seed, docstring=section)
    return docstring_rows(file, text, units=picks.docstring)


def example_of(row, folder, *, split=Split.TRAIN):
    """A row as a dataset holds it, written to a file and read back."""
    with ExampleFile(folder, split) as file:
        file.add(row, slice_=None, cluster="c")
    (example,) = pq.read_table(folder / f"{split}.parquet").to_pylist()
    return Example.model_validate(example)
