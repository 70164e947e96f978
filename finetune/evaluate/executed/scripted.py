"""Scripts that answer in a model's place, so that the grading can be graded: one is always right, one always wrong."""

from collections.abc import Mapping, Sequence

from finetune.contracts.edit_blocks import Block, write_blocks
from finetune.contracts.executed import ExecutedTask
from finetune.evaluate.executed.answer import gold_answer
from finetune.evaluate.executed.answering import Request
from finetune.evaluate.executed.chosen import ChosenTask
from finetune.evaluate.suite import Subject

# what no test of a body can be content with, by language, where mining left no weak body
NOTHING = {"python": "pass", "go": 'panic("not written")', "java": "throw new IllegalStateException();"}


class Oracle:
    """Writes what the author wrote."""

    def __init__(self, tasks: Sequence[ChosenTask]) -> None:
        self._tasks = {chosen.task.id: chosen for chosen in tasks}

    def answers(self, subject: Subject, requests: Sequence[Request]) -> list[str]:
        chosen = [(self._tasks[request.prompt.task_id], request) for request in requests]
        return [gold_answer(one.task, form=request.prompt.form, before=one.before) or "" for one, request in chosen]


class AlwaysWrong:
    """Writes a weak body, or leaves the files as they were before the commit, in the form that was asked for."""

    def __init__(self, tasks: Sequence[ChosenTask]) -> None:
        self._tasks = {chosen.task.id: chosen for chosen in tasks}

    def answers(self, subject: Subject, requests: Sequence[Request]) -> list[str]:
        chosen = [self._tasks[request.prompt.task_id] for request in requests]
        return [wrong_answer(one.task, one.before) for one in chosen]


def wrong_answer(task: ExecutedTask, before: Mapping[str, str]) -> str:
    """An answer in the right form that does nothing."""
    if task.kind == "body":
        return task.weak[0] if task.weak else NOTHING.get(task.language, "throw new Error();")
    written = (write_blocks(path, [Block(text, text)]) for path, text in before.items() if text)
    return next((text for text in written if text), "")
