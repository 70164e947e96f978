"""The journal of measurements: what it keeps through kills and damage, and what it never mixes."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from finetune.contracts.adapter import Quantization
from finetune.contracts.errors import RunError
from finetune.contracts.evaluation import SuiteName
from finetune.evaluate.journal import Journal, JournalKey
from finetune.evaluate.suite import Measured

KEY = JournalKey(
    suite=SuiteName.INFILL,
    tasks="t" * 64,
    base="b" * 64,
    tokenizer="k" * 64,
    template="c" * 64,
    adapter="",
    quantization=Quantization.NF4,
    device="cpu",
    versions="torch 2",
)
ONE = Measured("one", {"pass@1": 1.0}, answer="größe\n\ud800", note="ok")
TWO = Measured("two", {"bits": 12.5}, size=3.0)


def test_what_was_added_is_read_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path, KEY)
    assert journal.read() == {}
    with journal.writing() as writer:
        writer.add(ONE)
        assert journal.read() == {"one": ONE}
        writer.add(TWO)
    with journal.writing() as writer:
        writer.add(Measured("three"))
    assert journal.read() == {"one": ONE, "two": TWO, "three": Measured("three")}


def test_a_line_that_was_cut_or_altered_is_measured_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, KEY)
    with journal.writing() as writer:
        writer.add(ONE)
        writer.add(TWO)
    text = journal.path.read_text()
    journal.path.write_text(text.replace("12.5", "12.6"))
    assert journal.read() == {"one": ONE}
    journal.path.write_text(text[:-9])
    assert journal.read() == {"one": ONE}
    with journal.writing() as writer:
        writer.add(TWO)
    assert journal.read() == {"one": ONE, "two": TWO}


@pytest.mark.parametrize("field", ["tasks", "base", "tokenizer", "template", "adapter", "device", "versions"])
def test_whatever_decides_a_result_has_a_journal_of_its_own(tmp_path: Path, field: str) -> None:
    with Journal(tmp_path, KEY).writing() as writer:
        writer.add(ONE)
    assert Journal(tmp_path, KEY.model_copy(update={field: "other"})).read() == {}


def test_a_second_process_is_refused_while_one_measures(tmp_path: Path) -> None:
    journal = Journal(tmp_path, KEY)
    with journal.writing(), pytest.raises(RunError, match="Another process measures"), journal.writing():
        pass


def test_a_kill_loses_nothing_that_was_added(tmp_path: Path) -> None:
    program = f"""
        import os, signal
        from pathlib import Path
        from finetune.evaluate.journal import Journal, JournalKey
        from finetune.evaluate.suite import Measured
        journal = Journal(Path({str(tmp_path)!r}), JournalKey.model_validate_json({KEY.model_dump_json()!r}))
        with journal.writing() as writer:
            for number in range(20):
                writer.add(Measured(str(number)))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -9
    journal = Journal(tmp_path, KEY)
    assert len(journal.read()) == 20
    with journal.writing() as writer:
        writer.add(Measured("20"))
    assert len(journal.read()) == 21
