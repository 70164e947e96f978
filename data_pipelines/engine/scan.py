"""The last scan: what a row is about to show is scanned once more, whatever was done to it before."""

from collections import OrderedDict

from data_pipelines.mine.row import Row
from data_pipelines.redact.form import Form, form_of
from data_pipelines.redact.redactor import Redactor, ScanFailed
from finetune.contracts.dataset import Role, Segment, Task

# texts that were scanned clean and of which rows show parts; rows of one file follow one another
CLEAN_KEPT = 64
# segments that a person or a model wrote as prose, whatever file they speak of
PROSE_TASKS = frozenset({Task.COMMIT_EDIT, Task.REVIEW_FIX, Task.QA})


class LastScan:
    """Says why a row must not be written. A part that stands word for word in a text scanned clean is clean."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._clean: OrderedDict[tuple[str, Form], str] = OrderedDict()

    def reason(self, row: Row) -> str:
        """Why a row must not be written, "" when nothing speaks against it."""
        try:
            for segment in row.segments:
                found = self._rules(segment.text, form_of_segment(row, segment), name=_name(row, segment))
                if found:
                    return f"the last scan found a secret: {found[0]}"
        except ScanFailed as failed:
            return str(failed)
        return ""

    def offer(self, name: str, text: str, form: Form) -> None:
        """Scan a whole text of which rows will show parts; nothing is remembered of one in which something is found."""
        try:
            clean = not self._redactor.rules_that_hit(text, form)
        except ScanFailed:
            return
        if clean:
            self._clean[name, form] = text
            while len(self._clean) > CLEAN_KEPT:
                self._clean.popitem(last=False)

    def _rules(self, text: str, form: Form, *, name: str) -> tuple[str, ...]:
        whole = self._clean.get((name, form))
        if whole is not None and text in whole:
            return ()
        return self._redactor.rules_that_hit(text, form)


def form_of_segment(row: Row, segment: Segment) -> Form:
    """How a segment writes its values."""
    if segment.role is Role.INSTRUCTION and row.task in PROSE_TASKS:
        return Form.PROSE
    return form_of(segment.path or row.provenance[0].path)


def _name(row: Row, segment: Segment) -> str:
    return f"{row.provenance[0].repo}:{segment.path}"
