"""What the leakage gate is told of rows."""

import numpy as np
import pytest

from data_pipelines.config import RedactSection
from data_pipelines.document import Origin
from data_pipelines.engine.scan import LastScan
from data_pipelines.engine.writer import PartWriter, Place, file_marks
from data_pipelines.mine.row import Row, provenance
from data_pipelines.redact.people import People
from data_pipelines.redact.redactor import Redactor
from data_pipelines.split.functions import FunctionLines
from data_pipelines.task_config import TasksSection
from finetune.contracts.dataset import Role, Segment, Split, Task

FUNCTIONS = {"test_a.py": [FunctionLines(1, 9, 11), FunctionLines(20, 29, 12)], "a.py": [FunctionLines(1, 5, 13)]}
TEXT = "a text that is long enough to have a run of ten tokens in it"


def row_of(task):
    """A row whose target lies on lines 3 and 4 of test_a.py, and that shows the first lines of a.py."""
    places = [("test_a.py", (3, 4)), ("a.py", (1, 2))]
    return Row(
        task=task,
        language="python",
        stratum="",
        segments=(Segment(role=Role.ANSWER, text=TEXT, loss=True),),
        provenance=tuple(
            provenance("r", Origin("c", 7, "a"), path=path, blob="b", lines=lines, license_name=None)
            for path, lines in places
        ),
        spans=(),
        visibility="team",
    )


@pytest.mark.parametrize(("task", "expected"), [(Task.TESTS, [11, 13]), (Task.DOCSTRING, [11])])
def test_tests_ask_for_the_function_under_test_too(task, expected):
    marks = file_marks(row_of(task), Split.HELDOUT, FUNCTIONS.__getitem__)
    assert marks.functions.tolist() == expected
    assert len(marks.runs) == 6


def num_taught(folder, row):
    """How many runs a part teaches whose only row is this one."""
    folder.mkdir()
    with PartWriter(folder, LastScan(Redactor(RedactSection(), b"k" * 16, people=People())), TasksSection()) as writer:
        writer.add(row, Place(Split.TRAIN, None, "c"), file_marks(row, Split.TRAIN, FUNCTIONS.__getitem__))
    return len(np.fromfile(folder / "taught-runs.words", "<u8"))


def test_a_train_row_teaches_what_its_file_does_not(tmp_path):
    assert num_taught(tmp_path / "tests", row_of(Task.TESTS)) == 6
    assert num_taught(tmp_path / "docstring", row_of(Task.DOCSTRING)) == 0
