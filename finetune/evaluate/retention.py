"""The retention suite: general text and instructions, at which an adapter must be no worse than its base."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from finetune.contracts.dataset import Example, Provenance, ReasonCount, Role, Segment, Split
from finetune.contracts.dataset import Task as RowTask
from finetune.contracts.errors import BaseModelError, MachineError
from finetune.contracts.evaluation import Answer, Finding, PairedRow, SuiteName
from finetune.contracts.io import digest_text
from finetune.evaluate.general.functions import FunctionTask, function_tasks, grade
from finetune.evaluate.general.instructions import DEFINITION, Instruction, instructions
from finetune.evaluate.generate import greedy
from finetune.evaluate.heldout import HeldoutRow, heldout_rows
from finetune.evaluate.metric import Metric
from finetune.evaluate.suite import Measured, Subject, Task, batches
from finetune.execution.jail import Jail
from finetune.model.scoring import row_losses
from finetune.recipe.schema import EvaluateSection
from finetune.render.rows import Renderer

STAGE = "evaluate"
TEXT_PATH = Path(__file__).parent / "general" / "text.json"
LIBRARY = "python standard library"
# Long enough for each answer that passes; shorter answers cost nothing
ANSWER_TOKENS = 96

# Code models need 0.5 to 1.5 bits a byte of such text: a loss of 2 to 4 %, and what some hundred texts can tell.
GENERAL_BITS = Metric(SuiteName.RETENTION, "general bits per byte", "", "lower is better", "ratio", margin=0.02)
# Five points of a hundred: with one answer in twenty changed, two would take 1,000 tasks, five take 160. One share of
# all that is passed: 25 functions by themselves could show no margin below ten points.
PASSED = Metric(
    SuiteName.RETENTION,
    "general tasks passed",
    "share",
    "higher is better",
    "pass or fail",
    margin=0.05,
    by=("group",),
)


class RetentionSuite:
    """Pieces of the standard library whose text is scored, instructions whose answers programs check, and functions.

    Functions are graded by running them; where there is no jail they are left out.
    """

    name = SuiteName.RETENTION
    metrics = (GENERAL_BITS, PASSED)

    def __init__(self, renderer: Renderer, section: EvaluateSection, *, pad_token: int) -> None:
        self._renderer = renderer
        self._batch_rows = section.batch_rows
        self._pad_token = pad_token
        self._rows = heldout_rows(
            list(general_texts(section.retention_rows)), renderer, max_rows=section.retention_rows
        )
        self._left_out: list[ReasonCount] = []
        self._prompts = self._rendered(instructions()[: section.retention_rows])
        self._jail: Jail | None = None
        self._functions = self._holes(function_tasks()[: section.retention_rows])
        self.tasks = (
            *map(_text_task, self._rows),
            *(_instruction_task(each) for each, _ in self._prompts),
            *(_function_task(each) for each, _ in self._functions),
        )
        rows = [[row.task_id, list(row.input_ids), list(row.labels)] for row in self._rows]
        prompts = [[each.id, ids] for each, ids in self._prompts]
        holes = [[each.name, each.cases, ids] for each, ids in self._functions]
        settings = [DEFINITION, ANSWER_TOKENS, self._batch_rows, pad_token]
        self.digest = digest_text(json.dumps([*settings, rows, prompts, holes]))

    def left_out(self) -> tuple[ReasonCount, ...]:
        return (*self._renderer.reasons(), *self._left_out)

    def findings(self, rows: Sequence[PairedRow], answers: Sequence[Answer]) -> tuple[Finding, ...]:
        return ()

    def measure(self, subject: Subject, task_ids: Sequence[str], *, told: Callable[[Measured], None]) -> None:
        wanted = frozenset(task_ids)
        self._score_texts(subject, wanted, told)
        self._follow(subject, wanted, told)
        self._write(subject, wanted, told)

    def _score_texts(self, subject: Subject, wanted: frozenset[str], told: Callable[[Measured], None]) -> None:
        for places in batches([len(row.input_ids) for row in self._rows], self._batch_rows):
            chosen = [self._rows[place] for place in places]
            if wanted.isdisjoint(row.task_id for row in chosen):
                continue
            pairs = [(row.input_ids, row.labels) for row in chosen]
            losses = row_losses(subject.model, pairs, pad_token=self._pad_token, batch_rows=self._batch_rows)
            for row, loss in zip(chosen, losses, strict=True):
                if row.task_id in wanted:
                    told(Measured(row.task_id, {GENERAL_BITS.name: loss / math.log(2)}, size=row.num_bytes))

    def _follow(self, subject: Subject, wanted: frozenset[str], told: Callable[[Measured], None]) -> None:
        family = self._renderer.family
        by_id = {each.id: each for each, _ in self._prompts}
        prompts = [(each.id, ids) for each, ids in self._prompts]
        for task_id, answer in self._answers(subject, prompts, wanted, stops=(family.turn_end, family.document_end)):
            passed = by_id[task_id].passes(answer)
            told(Measured(task_id, {PASSED.name: float(passed)}, answer=answer))

    def _write(self, subject: Subject, wanted: frozenset[str], told: Callable[[Measured], None]) -> None:
        family = self._renderer.family
        by_id = {_function_id(each): each for each, _ in self._functions}
        prompts = [(_function_id(each), ids) for each, ids in self._functions]
        stops = (*family.infill_stops, family.document_end)
        for task_id, answer in self._answers(subject, prompts, wanted, stops=stops):
            assert self._jail is not None
            found = grade(by_id[task_id], answer, self._jail)
            values = {} if found.broken else {PASSED.name: float(found.passed)}
            told(Measured(task_id, values, answer=answer, note=found.note, broken=found.broken))

    def _answers(
        self,
        subject: Subject,
        prompts: Sequence[tuple[str, list[int]]],
        wanted: frozenset[str],
        *,
        stops: Sequence[str],
    ) -> Iterator[tuple[str, str]]:
        """Ids that are wanted and what the model answers, in the batches that all prompts make."""
        tokenizer = self._renderer.tokenizer
        for places in batches([len(ids) for _, ids in prompts], self._batch_rows):
            chosen = [prompts[place] for place in places]
            if wanted.isdisjoint(task_id for task_id, _ in chosen):
                continue
            answers = greedy(
                subject.model,
                [ids for _, ids in chosen],
                stops=frozenset(map(tokenizer.convert_tokens_to_ids, stops)),
                max_new_tokens=ANSWER_TOKENS,
                pad_token=self._pad_token,
                batch_rows=len(chosen),
            )
            for (task_id, _), ids in zip(chosen, answers, strict=True):
                if task_id in wanted:
                    yield task_id, tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    def _holes(self, chosen: Sequence[FunctionTask]) -> list[tuple[FunctionTask, list[int]]]:
        """Functions with the prompts of their bodies; none, and counted, where nothing may be run."""
        try:
            self._jail = Jail.open()
        except MachineError as error:
            self._left_out.append(ReasonCount(stage=STAGE, reason=f"function: {error.message}", count=len(chosen)))
            return []
        prompts = [(each, self._renderer.prompt(_hole(each), reserve_tokens=ANSWER_TOKENS)) for each in chosen]
        found = [(each, ids) for each, ids in prompts if ids is not None]
        if len(found) < len(chosen):
            reason = "function passed over: it does not fit in max_tokens with its answer"
            self._left_out.append(ReasonCount(stage=STAGE, reason=reason, count=len(chosen) - len(found)))
        return found

    def _rendered(self, chosen: Sequence[Instruction]) -> list[tuple[Instruction, list[int]]]:
        """Instructions with their prompts; those that a base cannot be asked are left out and counted."""
        found = []
        try:
            prompts = [self._renderer.prompt(_asked(each), reserve_tokens=ANSWER_TOKENS) for each in chosen]
        except BaseModelError as error:
            self._left_out.append(ReasonCount(stage=STAGE, reason=f"instruction: {error.message}", count=len(chosen)))
            return []
        for each, ids in zip(chosen, prompts, strict=True):
            if ids is not None:
                found.append((each, ids))
        if len(found) < len(chosen):
            reason = "instruction passed over: it does not fit in max_tokens with its answer"
            self._left_out.append(ReasonCount(stage=STAGE, reason=reason, count=len(chosen) - len(found)))
        return found


def general_texts(num_texts: int) -> Iterator[Example]:
    """The first num_texts pieces of the shipped text."""
    for entry in json.loads(TEXT_PATH.read_text(encoding="utf-8"))["texts"][:num_texts]:
        yield _example(RowTask.PRETRAIN, (Role.TARGET, entry["text"]), path=entry["path"])


def _asked(instruction: Instruction) -> Example:
    return _example(RowTask.DOCSTRING, (Role.INSTRUCTION, instruction.prompt))


def _hole(function: FunctionTask) -> Example:
    return _example(RowTask.INFILL, (Role.PREFIX, function.head), (Role.SUFFIX, "\n"), (Role.TARGET, "    pass"))


def _example(task: RowTask, *parts: tuple[Role, str], path: str = "") -> Example:
    place = Provenance(
        repo=LIBRARY, commit="", path=path, blob="", first_line=1, last_line=1, author="", committed_at=0
    )
    return Example(
        id=digest_text(repr(parts))[:16],
        task=task,
        language="python",
        stratum="",
        segments=tuple(
            Segment(role=role, text=text, path=path or None, loss=role is Role.TARGET) for role, text in parts
        ),
        provenance=(place,) if path else (),
        split=Split.HELDOUT,
        cluster=path,
        redactions=0,
        visibility="public",
    )


def _function_id(function: FunctionTask) -> str:
    return f"function {function.name}"


def _function_task(function: FunctionTask) -> Task:
    return Task(
        id=_function_id(function), cluster=function.name, language="python", group="function", prompt=function.head
    )


def _text_task(row: HeldoutRow) -> Task:
    return Task(id=row.task_id, path=row.place.path, cluster=row.place.cluster, language="python", group="text")


def _instruction_task(instruction: Instruction) -> Task:
    return Task(id=instruction.id, cluster=instruction.form, group=instruction.kind, prompt=instruction.prompt)
