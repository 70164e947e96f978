import pytest

from data_pipelines.config import RedactSection
from data_pipelines.engine.scan import CLEAN_KEPT, LastScan, form_of_segment
from data_pipelines.mine.row import Row
from data_pipelines.redact.form import Form
from data_pipelines.redact.people import People
from data_pipelines.redact.redactor import Redactor
from data_pipelines.redact.scanner import Scanner
from finetune.contracts.dataset import Provenance, Role, Segment, Task

SECRET = "AKIA" + "QWERTYUIOPASDFGH"
CLEAN = "def total(items):\n    return sum(items)\n"
PLACE = Provenance(
    repo="shop", commit="c", path="shop/cart.py", blob="b", first_line=1, last_line=2, author="a", committed_at=7
)
NAME = "shop:shop/cart.py"


def row(*segments, task=Task.INFILL):
    return Row(task, "python", "", tuple(segments), (PLACE,), (), "team")


def segment(text, role=Role.TARGET, path="shop/cart.py"):
    return Segment(role=role, text=text, path=path)


@pytest.fixture
def scan():
    people = People()
    people.add_person("Grace Hopper", "grace@navy.internal")
    return LastScan(Redactor(RedactSection(), b"k" * 16, people=people))


@pytest.fixture
def scanned(monkeypatch):
    """Every text that the scanner gets to see."""
    plain, seen = Scanner.find, []

    def find(self, content, form, persons=None):
        seen.append(content.decode())
        return plain(self, content, form, persons)

    monkeypatch.setattr(Scanner, "find", find)
    return seen


def test_a_clean_row_may_be_written(scan):
    assert scan.reason(row(segment(CLEAN, Role.PREFIX), segment("x = 1\n"))) == ""


@pytest.mark.parametrize("role", list(Role))
def test_a_secret_in_any_segment_keeps_the_row_out(scan, role):
    found = row(segment(CLEAN, Role.PREFIX), segment(f'key = "{SECRET}"\n', role))
    assert scan.reason(found) == "the last scan found a secret: aws-access-key-id"


@pytest.mark.parametrize("text", ["# by Grace Hopper\n", "to = 'grace@navy.internal'\n"])
def test_a_person_keeps_the_row_out(scan, text):
    assert scan.reason(row(segment(text))).startswith("the last scan found a secret: author-")


def test_a_scan_that_fails_keeps_the_row_out(scan, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(Scanner, "find", fail)
    assert scan.reason(row(segment(CLEAN))) == "the scan for secrets failed: RuntimeError"
    scan.offer(NAME, CLEAN, Form.CODE)
    assert scan.reason(row(segment(CLEAN))) == "the scan for secrets failed: RuntimeError"


def test_parts_of_a_text_that_was_scanned_clean_are_not_scanned_again(scan, scanned):
    scan.offer(NAME, CLEAN, Form.CODE)
    assert len(scanned) == 1
    assert scan.reason(row(segment("def total(items):\n", Role.PREFIX), segment("    return sum(items)\n"))) == ""
    assert len(scanned) == 1


@pytest.mark.parametrize(
    "other", [segment("return sum(items) + 1\n"), segment("sum", path="shop/other.py"), segment("sum", path="a.md")]
)
def test_what_is_no_part_of_that_text_is_scanned(scan, scanned, other):
    scan.offer(NAME, CLEAN, Form.CODE)
    del scanned[:]
    assert scan.reason(row(other)) == ""
    assert scanned == [other.text]


def test_a_text_in_which_something_was_found_vouches_for_nothing(scan):
    text = f'key = "{SECRET}"\n'
    scan.offer(NAME, text, Form.CODE)
    assert scan.reason(row(segment(text))) == "the last scan found a secret: aws-access-key-id"


def test_few_texts_are_remembered(scan, scanned):
    for number in range(CLEAN_KEPT + 1):
        scan.offer(f"shop:{number}.py", CLEAN, Form.CODE)
    del scanned[:]
    for path, is_known in (("0.py", False), ("1.py", True), (f"{CLEAN_KEPT}.py", True)):
        scan.reason(row(segment("sum", path=path)))
        assert bool(scanned) is not is_known
        del scanned[:]


def test_an_instruction_that_a_person_wrote_is_prose_whatever_file_it_speaks_of():
    message = segment("Use password hunter2", Role.INSTRUCTION, path=None)
    for task in (Task.COMMIT_EDIT, Task.REVIEW_FIX, Task.QA):
        assert form_of_segment(row(message, task=task), message) is Form.PROSE
    assert form_of_segment(row(message, task=Task.DOCSTRING), message) is Form.CODE
    answer = segment("x", Role.ANSWER, path="shop/notes.md")
    assert form_of_segment(row(answer, task=Task.COMMIT_EDIT), answer) is not Form.CODE
