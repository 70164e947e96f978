"""Questions about a repository, written and answered by a teacher, kept when they pass every check."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from data_pipelines.mine.qa_check import Knows, disagreement, problem_of, shown_of
from data_pipelines.mine.qa_prompt import Citation, Draft, ask_prompt, check_prompt, read_draft
from data_pipelines.mine.qa_seeds import Seed, SeedKind, Shown
from data_pipelines.mine.row import Row, provenance_of
from data_pipelines.questions.teacher import Message, TeacherFailed
from data_pipelines.redact.form import Form, form_of
from data_pipelines.task_config import QaSection
from finetune.contracts.dataset import Role, Segment, Task
from finetune.contracts.io import digest_text

STAGE = "qa"
SPAN_DIGITS = 12


class Asks(Protocol):
    """A teacher. Raises TeacherFailed for a question that got no answer."""

    def ask(self, messages: Sequence[Message]) -> str: ...


class Redacts(Protocol):
    """Who takes secrets and persons out of a text. Raises ScanFailed."""

    def redact(self, text: str, form: Form) -> str: ...


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why a seed gives no row."""

    reason: str


class QaMiner:
    """Makes a row of a seed with at most two questions to the teacher.

    knows tells whether a name occurs in the repository. redactor is only asked whether it would change a text: seeds
    are redacted already, and one in which it still finds something is neither sent nor kept.
    """

    def __init__(self, teacher: Asks, redactor: Redacts, *, knows: Knows, section: QaSection) -> None:
        self._teacher = teacher
        self._redactor = redactor
        self._knows = knows
        self._section = section

    def mine(self, seed: Seed) -> Row | NoAnswer:
        """The row of a seed, or why there is none. Raises ScanFailed, and what ends Teacher.ask for good."""
        if not self._is_clean(seed):
            return NoAnswer("the scan before sending found a secret or a person")
        try:
            draft = read_draft(self._teacher.ask(ask_prompt(seed)))
            if draft is None:
                return NoAnswer("the answer is no JSON object with a question and an answer")
            reason = self._problem(draft, seed)
        except TeacherFailed as failed:
            return NoAnswer(str(failed))
        return NoAnswer(reason) if reason else _row(draft, seed)

    def _problem(self, draft: Draft, seed: Seed) -> str:
        problem = problem_of(draft, seed, knows=self._knows, section=self._section)
        if problem:
            return problem
        if not self._keeps(f"{draft.question}\n{draft.answer}", Form.PROSE):
            return "the answer holds a secret or a person"
        second = self._teacher.ask(check_prompt(draft, _cited(draft, seed)))
        return disagreement(draft, second, self._section)

    def _is_clean(self, seed: Seed) -> bool:
        files = all(self._keeps("\n".join(one.lines) + "\n", form_of(one.document.path)) for one in seed.shown)
        paths = all(self._keeps(one.document.path, Form.PROSE) for one in seed.shown)
        is_message = seed.kind is SeedKind.COMMIT
        return (
            files
            and paths
            and self._keeps(seed.focus, Form.PROSE if is_message else form_of(seed.shown[0].document.path))
        )

    def _keeps(self, text: str, form: Form) -> bool:
        return self._redactor.redact(text, form) == text


def _cited(draft: Draft, seed: Seed) -> list[tuple[Shown, Citation]]:
    found = [(shown_of(one, seed.shown), one) for one in draft.citations]
    return [(shown, one) for shown, one in found if shown is not None]


def _row(draft: Draft, seed: Seed) -> Row:
    cited = _cited(draft, seed)
    first = cited[0][0].document
    return Row(
        task=Task.QA,
        language=first.language,
        stratum=seed.kind,
        segments=(
            Segment(role=Role.INSTRUCTION, text=draft.question),
            *(
                Segment(role=Role.CONTEXT, text=shown.numbered(one.first, one.last), path=one.path)
                for shown, one in cited
            ),
            Segment(role=Role.ANSWER, text=draft.cited_answer(), loss=True),
        ),
        provenance=tuple(provenance_of(shown.document, (one.first, one.last)) for shown, one in cited),
        # two questions may cite the same lines
        spans=(int(digest_text(draft.question)[:SPAN_DIGITS], 16),),
        visibility=first.visibility,
    )
