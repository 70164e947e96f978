"""The retention suite: general text and instructions, at which an adapter must be no worse than its base."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from finetune.contracts.dataset import Example, Provenance, ReasonCount, Role, Segment, Split
from finetune.contracts.dataset import Task as RowTask
from finetune.contracts.errors import BaseModelError
from finetune.contracts.evaluation import Answer, Finding, PairedRow, SuiteName
from finetune.contracts.io import digest_text
from finetune.evaluate.general.instructions import DEFINITION, Instruction, instructions
from finetune.evaluate.generate import greedy
from finetune.evaluate.heldout import HeldoutRow, heldout_rows
from finetune.evaluate.metric import Metric
from finetune.evaluate.suite import Measured, Subject, Task, batches
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
# Five points of a hundred: with one answer in twenty changed, two would take 1,000 instructions, five take 160.
FOLLOWED = Metric(
    SuiteName.RETENTION,
    "instructions followed",
    "share",
    "higher is better",
    "pass or fail",
    margin=0.05,
    by=("group",),
)


class RetentionSuite:
    """Pieces of the standard library whose text is scored, and instructions whose answers programs check."""

    name = SuiteName.RETENTION
    metrics = (GENERAL_BITS, FOLLOWED)

    def __init__(self, renderer: Renderer, section: EvaluateSection, *, pad_token: int) -> None:
        self._renderer = renderer
        self._batch_rows = section.batch_rows
        self._pad_token = pad_token
        self._rows = heldout_rows(
            list(general_texts(section.retention_rows)), renderer, max_rows=section.retention_rows
        )
        self._left_out: list[ReasonCount] = []
        self._prompts = self._rendered(instructions()[: section.retention_rows])
        self.tasks = (*map(_text_task, self._rows), *(_instruction_task(each) for each, _ in self._prompts))
        rows = [[row.task_id, list(row.input_ids), list(row.labels)] for row in self._rows]
        prompts = [[each.id, ids] for each, ids in self._prompts]
        self.digest = digest_text(json.dumps([DEFINITION, ANSWER_TOKENS, self._batch_rows, pad_token, rows, prompts]))

    def left_out(self) -> tuple[ReasonCount, ...]:
        return (*self._renderer.reasons(), *self._left_out)

    def findings(self, rows: Sequence[PairedRow], answers: Sequence[Answer]) -> tuple[Finding, ...]:
        return ()

    def measure(self, subject: Subject, task_ids: Sequence[str], *, told: Callable[[Measured], None]) -> None:
        wanted = frozenset(task_ids)
        self._score_texts(subject, wanted, told)
        self._follow(subject, wanted, told)

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
        tokenizer, family = self._renderer.tokenizer, self._renderer.family
        stops = frozenset(map(tokenizer.convert_tokens_to_ids, {family.turn_end, family.document_end}))
        for places in batches([len(ids) for _, ids in self._prompts], self._batch_rows):
            chosen = [self._prompts[place] for place in places]
            if wanted.isdisjoint(each.id for each, _ in chosen):
                continue
            answers = greedy(
                subject.model,
                [ids for _, ids in chosen],
                stops=stops,
                max_new_tokens=ANSWER_TOKENS,
                pad_token=self._pad_token,
                batch_rows=len(chosen),
            )
            for (each, _), ids in zip(chosen, answers, strict=True):
                if each.id in wanted:
                    answer = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
                    told(Measured(each.id, {FOLLOWED.name: float(each.passes(answer))}, answer=answer))

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
        yield _example(RowTask.PRETRAIN, Role.TARGET, entry["text"], path=entry["path"])


def _asked(instruction: Instruction) -> Example:
    return _example(RowTask.DOCSTRING, Role.INSTRUCTION, instruction.prompt, path="")


def _example(task: RowTask, role: Role, text: str, *, path: str) -> Example:
    place = Provenance(
        repo=LIBRARY, commit="", path=path, blob="", first_line=1, last_line=1, author="", committed_at=0
    )
    return Example(
        id=digest_text(text)[:16],
        task=task,
        language="python",
        stratum="",
        segments=(Segment(role=role, text=text, path=path or None, loss=role is Role.TARGET),),
        provenance=(place,) if path else (),
        split=Split.HELDOUT,
        cluster=path,
        redactions=0,
        visibility="public",
    )


def _text_task(row: HeldoutRow) -> Task:
    return Task(id=row.task_id, path=row.place.path, cluster=row.place.cluster, language="python", group="text")


def _instruction_task(instruction: Instruction) -> Task:
    return Task(id=instruction.id, cluster=instruction.form, group=instruction.kind, prompt=instruction.prompt)
