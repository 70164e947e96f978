"""What a model is shown of a task: a hole in a file, or an instruction with files, in the form that training uses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from finetune.contracts.dataset import Example, Provenance, Role, Segment, Split, Task
from finetune.contracts.edit_blocks import DIVIDER, REPLACE, SEARCH
from finetune.contracts.executed import ExecutedTask
from finetune.evaluate.executed.answer import Form, Hole, hole_of
from finetune.render.infill import infill_prompt
from finetune.render.rows import Renderer

MARK = "<<< THE BODY >>>"
ASK_BODY = (
    f"The body of a function is missing where {MARK} stands. Answer with its lines alone, indented as in the file."
)
# rows teach this form without words; a base that never saw it must be told, and both models see the same
ASK_BLOCKS = f"""Answer with search/replace blocks alone. Each is written so, the lines to find as they stand there:

PATH
{SEARCH}
LINES TO FIND
{DIVIDER}
LINES IN THEIR PLACE
{REPLACE}"""


@dataclass(frozen=True, slots=True)
class TaskPrompt:
    """Token ids up to where the answer begins. cropped: the file did not fit, and what lies far from the hole is gone.

    shown is what a person reads of it.
    """

    task_id: str
    form: Form
    token_ids: tuple[int, ...]
    shown: str
    cropped: bool = False


def task_prompt(
    task: ExecutedTask, before: Mapping[str, str], renderer: Renderer, *, reserve_tokens: int
) -> TaskPrompt | None:
    """The prompt of task, leaving reserve_tokens of the renderer's max_tokens free; None where that cannot be.

    before holds the texts of the task's files in its tree, by path, "" for one that is not there. Raises
    BaseModelError for an instruction that the base has no chat template for.
    """
    if task.kind == "commit":
        shown = f"{task.statement}\n\n{ASK_BLOCKS}"
        example = _example(task, Task.COMMIT_EDIT, _instruction(shown, before))
        ids = renderer.prompt(example, reserve_tokens=reserve_tokens)
        return None if ids is None else TaskPrompt(task.id, "blocks", tuple(ids), task.statement)
    hole = hole_of(before[task.path], task)
    if renderer.family.sentinels is not None:
        return _infill(task, hole, renderer, max_tokens=renderer.max_tokens - reserve_tokens)
    return _asked(task, hole, renderer, reserve_tokens=reserve_tokens)


def _infill(task: ExecutedTask, hole: Hole, renderer: Renderer, *, max_tokens: int) -> TaskPrompt | None:
    example = _example(task, Task.INFILL, _segments((Role.PREFIX, hole.before), (Role.SUFFIX, hole.after)))
    found = infill_prompt(renderer.tokenizer, renderer.family, example, max_tokens=max_tokens)
    if found is None:
        return None
    return TaskPrompt(task.id, "infill", tuple(found.token_ids), _around(hole), cropped=found.cropped)


def _asked(task: ExecutedTask, hole: Hole, renderer: Renderer, *, reserve_tokens: int) -> TaskPrompt | None:
    """The instruction with as many lines around the hole as fit."""
    for text, cropped in _windows(hole):
        example = _example(
            task, Task.SEARCH_REPLACE, _instruction(f"{task.statement}\n\n{ASK_BODY}".strip(), {task.path: text})
        )
        ids = renderer.prompt(example, reserve_tokens=reserve_tokens)
        if ids is not None:
            return TaskPrompt(task.id, "body", tuple(ids), _around(hole), cropped=cropped)
    return None


def _windows(hole: Hole) -> Iterator[tuple[str, bool]]:
    """The file with its hole marked, then halves of it, at least a quarter below: as infill prompts are cropped."""
    above, below = hole.before.split("\n"), hole.after.split("\n")
    room = len(above) + len(below)
    while room:
        kept_below = min(len(below), max(room // 4, room - len(above)))
        kept_above = min(len(above), room - kept_below)
        text = "\n".join(above[len(above) - kept_above :]) + MARK + "\n".join(below[:kept_below])
        yield text, room < len(above) + len(below)
        room //= 2


def _around(hole: Hole, *, lines: int = 24) -> str:
    """What a person needs to see of a hole."""
    above, below = hole.before.split("\n"), hole.after.split("\n")
    return "\n".join(above[-lines:]) + MARK + "\n".join(below[: lines // 4])


def _instruction(text: str, files: Mapping[str, str]) -> tuple[Segment, ...]:
    shown = [Segment(role=Role.CONTEXT, text=content, path=path) for path, content in files.items() if content]
    return (Segment(role=Role.INSTRUCTION, text=text), *shown)


def _segments(*parts: tuple[Role, str]) -> tuple[Segment, ...]:
    return tuple(Segment(role=role, text=text) for role, text in parts)


def _example(task: ExecutedTask, kind: Task, segments: Sequence[Segment]) -> Example:
    """The row that training would be given for task; it has no answer."""
    place = Provenance(
        repo=task.repo,
        commit=task.commit,
        path=task.path,
        blob="",
        first_line=max(1, task.first_line),
        last_line=max(1, task.last_line),
        author="",
        committed_at=0,
    )
    return Example(
        id=task.id,
        task=kind,
        language=task.language,
        stratum="",
        segments=tuple(segments),
        provenance=(place,),
        split=Split.HELDOUT,
        cluster=task.cluster,
        redactions=0,
        visibility="",
    )
