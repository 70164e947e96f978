"""Which executed tasks a model is asked: checked folders, a draw by digest, prompts that fit; the rest is counted."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.contracts.dataset import ReasonCount
from finetune.contracts.errors import BaseModelError, DatasetError
from finetune.contracts.executed import TREES_NAME, ExecutedSuite, ExecutedTask, Toolchain
from finetune.contracts.executed_files import HINT, read_suite, toolchain_of
from finetune.contracts.io import digest_text
from finetune.evaluate.executed.answer import gold_answer
from finetune.evaluate.executed.prompt import TaskPrompt, task_prompt
from finetune.execution.runners.registry import RUNNERS
from finetune.families.base import Piece, encode_pieces
from finetune.recipe.schema import EvaluateSection
from finetune.render.rows import Renderer

STAGE = "evaluate"
UNKNOWN = "unknown"
UNLABELLED = "task counted as unseen, though mining was not told what training saw (data tasks --dataset)"
FOREIGN = "task counted as unseen: its label is of another dataset than the adapter was trained on"


@dataclass(frozen=True, slots=True)
class ChosenTask:
    """A task with what grading it takes. before holds the texts of its files in tree by path, "" for one not there."""

    task: ExecutedTask
    tree: Path
    toolchain: Toolchain
    before: Mapping[str, str]
    prompt: TaskPrompt

    @property
    def knew(self) -> str:
        """What training knew of it: seen, novel or evolving; unknown where mining was not told of this dataset."""
        return "seen" if self.task.seen else self.task.slice or UNKNOWN


@dataclass(frozen=True, slots=True)
class ChosenTasks:
    """The tasks to ask, how many were passed over by reason, and the digests of the folders they are from."""

    tasks: tuple[ChosenTask, ...]
    left_out: tuple[ReasonCount, ...]
    digests: tuple[str, ...]


def choose_tasks(
    folders: Sequence[Path], renderer: Renderer, section: EvaluateSection, *, trained_on: str = ""
) -> ChosenTasks:
    """At most executed_tasks of the tasks in folders, in an order that ids and seed alone decide.

    trained_on is the digest of the adapter's dataset: labels of other datasets are not taken over; "" takes all.
    Raises DatasetError naming a folder or file that is damaged.
    """
    found = [read_suite(folder) for folder in folders]
    places = [
        (_known(task, suite, trained_on), folder / TREES_NAME / task.tree, toolchain_of(suite, task))
        for folder, (suite, tasks) in zip(folders, found, strict=True)
        for task in tasks
    ]
    chosen: dict[str, ChosenTask] = {}
    reasons: Counter[str] = Counter()
    for task, tree, toolchain in sorted(places, key=lambda place: digest_text(f"{section.seed} {place[0].id}")):
        if len(chosen) == section.executed_tasks:
            reasons["executed task left out: executed_tasks is reached"] += 1
        elif task.id in chosen:
            reasons["executed task left out: the same task is in another folder"] += 1
        else:
            try:
                chosen[task.id] = _ask(task, tree, toolchain, renderer=renderer, section=section)
            except _PassedOver as reason:
                reasons[f"{task.kind} task passed over: {reason}"] += 1
    cropped = sum(one.prompt.cropped for one in chosen.values())
    if cropped:
        reasons["body task kept, its file cropped far from the hole"] = cropped
    labelled = {task.id for suite, tasks in found if suite.labels_of for task in tasks}
    for one in chosen.values():
        if one.knew == UNKNOWN:
            reasons[FOREIGN if one.task.id in labelled else UNLABELLED] += 1
    counts = tuple(ReasonCount(stage=STAGE, reason=name, count=reasons[name]) for name in sorted(reasons))
    return ChosenTasks(tuple(chosen.values()), counts, tuple(suite.digest for suite, _ in found))


def _known(task: ExecutedTask, suite: ExecutedSuite, trained_on: str) -> ExecutedTask:
    """The task without a label that says nothing of this adapter."""
    if not (suite.labels_of and trained_on) or suite.labels_of == trained_on:
        return task
    return task.model_copy(update={"seen": False, "slice": None})


class _PassedOver(Exception):
    """A task that cannot be asked; the text is the reason."""


def _ask(
    task: ExecutedTask, tree: Path, toolchain: Toolchain, *, renderer: Renderer, section: EvaluateSection
) -> ChosenTask:
    if toolchain.runner not in RUNNERS:
        raise _PassedOver(f"nothing here runs tests of {toolchain.runner}")
    before = dict(_texts(task, tree))
    try:
        prompt = task_prompt(task, before, renderer, reserve_tokens=section.executed_new_tokens)
    except BaseModelError as cause:
        raise _PassedOver("this base has no chat template to ask it by") from cause
    if prompt is None:
        raise _PassedOver("its prompt does not fit in max_tokens beside executed_new_tokens")
    gold = gold_answer(task, form=prompt.form, before=before)
    if gold is None:
        raise _PassedOver("search/replace blocks cannot say what its author did")
    if len(encode_pieces(renderer.tokenizer, [Piece(_least(task, gold, before))])) > section.executed_new_tokens:
        raise _PassedOver("what its author wrote exceeds executed_new_tokens")
    return ChosenTask(task, tree, toolchain, before, prompt)


def _least(task: ExecutedTask, gold: str, before: Mapping[str, str]) -> str:
    """What an answer such as the author's cannot do without: the body, or the lines that a commit brought."""
    if task.kind == "body":
        return gold
    known = {line for text in before.values() for line in text.split("\n")}
    return "\n".join(line for file in task.gold for line in (file.text or "").split("\n") if line not in known)


def _texts(task: ExecutedTask, tree: Path) -> Iterator[tuple[str, str]]:
    paths = [task.path] if task.kind == "body" else [file.path for file in task.gold]
    for path in paths:
        place = tree / path
        if not place.is_file():
            if task.kind == "body":
                raise DatasetError(f"{place}, which task {task.id} names, does not exist.", HINT)
            yield path, ""
            continue
        try:
            yield path, place.read_bytes().decode("utf-8")
        except UnicodeDecodeError as cause:
            raise _PassedOver("a file of it is no UTF-8 text") from cause
