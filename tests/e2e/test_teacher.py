"""Questions and answers through this project's own server; the embedded base is a poor teacher: plumbing and counts."""

from collections import Counter
from pathlib import Path

import pytest

from data_pipelines.config import RedactSection
from data_pipelines.extract.python import PythonExtractor
from data_pipelines.mine.qa import NoAnswer, QaMiner
from data_pipelines.mine.qa_seeds import choose, symbol_seeds
from data_pipelines.mine.row import Row
from data_pipelines.questions.answers import FileAnswers
from data_pipelines.questions.teacher import Teacher
from data_pipelines.redact.redactor import Redactor
from data_pipelines.task_config import QaSection, TeacherSection
from finetune.embedded import BASE_FOLDER
from serving.run import running_server
from tests.unit.data_pipelines.mined import File

pytestmark = pytest.mark.slow
NUM_SEEDS = 4


class Clean:
    """A redactor as the pipeline has one."""

    def __init__(self):
        self.redactor = Redactor(RedactSection(), b"k" * 16)

    def redact(self, text, form):
        return self.redactor.redact(text, form).text


def seeds():
    """Places of a module of this project."""
    path = Path("data_pipelines/draw.py")
    text = path.read_bytes()
    document = File(path=str(path), language="python")
    found = symbol_seeds(document, text, units=PythonExtractor().units(text), max_lines=30)
    return choose(found, NUM_SEEDS, seed=0)


def test_every_seed_ends_in_a_row_or_a_counted_reason_and_a_rebuild_asks_nothing(tmp_path):
    answers = FileAnswers(tmp_path / "answers")

    def mine(url):
        section = TeacherSection(url=f"{url}/v1", model="embedded", max_tokens=48)
        miner = QaMiner(
            Teacher(section, answers), Clean(), knows=lambda name: False, section=QaSection(max_shown_lines=30)
        )
        return [miner.mine(seed) for seed in seeds()]

    with running_server(BASE_FOLDER, tmp_path / "adapters") as url:
        first = mine(url)
    reasons = Counter(one.reason for one in first if isinstance(one, NoAnswer))
    rows = [one for one in first if isinstance(one, Row)]
    assert len(rows) + reasons.total() == NUM_SEEDS
    # it answers, though hardly ever in the form that was asked for
    assert len(list((tmp_path / "answers").rglob("*.json"))) >= NUM_SEEDS
    assert not [reason for reason in reasons if "status" in reason or "connection" in reason]
    # the server is gone
    assert mine(url) == first
