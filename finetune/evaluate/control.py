"""The control: gaps in held-out files; the base sees files of the repository in its prompt, the adapter does not.

A team that does not train can still retrieve. Where the base with context does as well as the adapter without, the
report says that context alone closes the gap.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from finetune.contracts.dataset import Example, ReasonCount, Role, Split
from finetune.contracts.dataset import Task as RowTask
from finetune.contracts.errors import InputError
from finetune.contracts.evaluation import Answer, Finding, PairedRow, SuiteName
from finetune.contracts.io import digest_json, digest_text
from finetune.evaluate.control_text import FOR_BASE_ALONE, context_finding
from finetune.evaluate.generate import fill_in
from finetune.evaluate.metric import Kind, Metric
from finetune.evaluate.similarity import edit_similarity, exact_match
from finetune.evaluate.suite import Measured, Subject, Task, batches
from finetune.families.base import Piece, encode_pieces
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import OpenDataset
from finetune.render.infill import infill_prompt, text_of
from finetune.render.rows import Renderer

STAGE = "evaluate"
VERSION = 1


def _metric(name: str, kind: Kind, unit: str) -> Metric:
    return Metric(SuiteName.CONTROL, name, unit=unit, direction="higher is better", kind=kind)


# the base with context against the adapter without, then neither with context, then both
ACROSS = _metric(f"edit similarity, {FOR_BASE_ALONE}", "mean", "0 to 1")
ACROSS_EXACT = _metric(f"exact match, {FOR_BASE_ALONE}", "pass or fail", "share")
NEITHER = _metric("edit similarity, context for neither", "mean", "0 to 1")
BOTH = _metric("edit similarity, context for both", "mean", "0 to 1")


@dataclass(frozen=True, slots=True)
class ControlGap:
    """A gap with the prompt that holds files of the repository and the one that does not."""

    task: Task
    with_context: tuple[int, ...]
    without: tuple[int, ...]


def control_suite(dataset: OpenDataset, renderer: Renderer, section: EvaluateSection) -> "ControlGaps":
    """The suite of held-out repo_infill rows of dataset, whose context mining retrieved at the row's commit.

    Raises InputError where there is none, or where the base's family has no form for several files.
    """
    names = renderer.family.sentinels
    if names is None or names.file_sep is None:
        raise InputError(
            f"The family {renderer.family.name} has no form of a prompt with several files and a gap.",
            "Leave the control out, or take a base that was trained on whole repositories.",
        )
    examples = sorted(
        dataset.examples(Split.HELDOUT, [RowTask.REPO_INFILL]),
        key=lambda example: digest_text(f"{section.seed} {example.id}"),
    )
    gaps, left_out = _choose(examples, renderer, section)
    if not gaps:
        raise InputError(
            f"{dataset.folder} holds out no repo_infill row that can be asked with its context.",
            "Build the dataset with tasks.repo_infill, or raise data.max_tokens.",
        )
    return ControlGaps(gaps, left_out, renderer, section=section)


class ControlGaps:
    """Gaps that both models fill with context and without."""

    name = SuiteName.CONTROL
    metrics = (ACROSS, ACROSS_EXACT, NEITHER, BOTH)

    def __init__(
        self,
        gaps: Sequence[ControlGap],
        left_out: tuple[ReasonCount, ...],
        renderer: Renderer,
        *,
        section: EvaluateSection,
    ) -> None:
        self._gaps = gaps
        self._left_out = left_out
        self._renderer = renderer
        self._section = section
        self.tasks = tuple(gap.task for gap in gaps)
        asked = [digest_json([gap.task.id, *gap.with_context, -1, *gap.without]) for gap in self._gaps]
        self.digest = digest_json([VERSION, *asked, section.max_new_tokens, section.batch_rows])

    def left_out(self) -> tuple[ReasonCount, ...]:
        """Rows that were passed over before any model was asked, by reason."""
        return self._left_out

    def measure(self, subject: Subject, task_ids: Sequence[str], *, told: Callable[[Measured], None]) -> None:
        """Fill each gap twice. The answer kept is the one compared: the base's with context, the adapter's without."""
        wanted = frozenset(task_ids)
        for places in batches([len(gap.with_context) for gap in self._gaps], self._section.batch_rows):
            batch = [self._gaps[place] for place in places]
            if wanted.isdisjoint(gap.task.id for gap in batch):
                continue
            seeing = self._fill(subject, [gap.with_context for gap in batch])
            blind = self._fill(subject, [gap.without for gap in batch])
            for gap, helped, alone in zip(batch, seeing, blind, strict=True):
                if gap.task.id in wanted:
                    told(_measured(gap, subject, helped=helped, alone=alone))

    def findings(self, rows: Sequence[PairedRow], answers: Sequence[Answer]) -> tuple[Finding, ...]:
        """What context alone gives the base, and in words whether it closes the gap."""
        found = context_finding(rows, across=ACROSS, neither=NEITHER, section=self._section)
        return (found,) if found else ()

    def _fill(self, subject: Subject, prompts: Sequence[Sequence[int]]) -> list[str]:
        section = self._section
        return fill_in(
            subject.model,
            prompts,
            self._renderer,
            max_new_tokens=section.max_new_tokens,
            batch_rows=section.batch_rows,
        )


def _measured(gap: ControlGap, subject: Subject, *, helped: str, alone: str) -> Measured:
    """The value of each metric for this side: which prompt it means depends on the side in one case alone."""
    across = helped if subject.side == "base" else alone
    wanted = gap.task.wanted
    values = {
        ACROSS.name: edit_similarity(across, wanted),
        ACROSS_EXACT.name: float(exact_match(across, wanted)),
        NEITHER.name: edit_similarity(alone, wanted),
        BOTH.name: edit_similarity(helped, wanted),
    }
    return Measured(gap.task.id, values, answer=across)


def _choose(
    examples: Sequence[Example], renderer: Renderer, section: EvaluateSection
) -> tuple[list[ControlGap], tuple[ReasonCount, ...]]:
    chosen: list[ControlGap] = []
    reasons: Counter[str] = Counter()
    for example in examples:
        if len(chosen) == section.control_rows:
            break
        found = _ask(example, renderer, section)
        if isinstance(found, str):
            reasons[f"control gap passed over: {found}"] += 1
        else:
            chosen.append(found)
    counts = [ReasonCount(stage=STAGE, reason=name, count=reasons[name]) for name in sorted(reasons)]
    return chosen, tuple(counts)


def _ask(example: Example, renderer: Renderer, section: EvaluateSection) -> ControlGap | str:
    """The gap with both its prompts, or why it cannot be asked."""
    wanted = text_of(example, Role.TARGET)
    if not wanted.strip():
        return "its text is blank"
    if len(encode_pieces(renderer.tokenizer, [Piece(wanted)])) > section.max_new_tokens:
        return "its text exceeds max_new_tokens"
    bare = example.model_copy(
        update={"segments": tuple(part for part in example.segments if part.role is not Role.CONTEXT)}
    )
    prompts = list(_prompts((example, bare), renderer, max_tokens=renderer.max_tokens - section.max_new_tokens))
    if len(prompts) < 2:
        return "not a file of its context fits in max_tokens"
    place = example.provenance[0]
    task = Task(
        id=example.id,
        repo=place.repo,
        path=place.path,
        cluster=example.cluster,
        language=example.language,
        group=example.stratum,
        slice=example.slice or "",
        prompt=_shown(example),
        wanted=wanted,
    )
    return ControlGap(task, with_context=prompts[0], without=prompts[1])


def _prompts(examples: Sequence[Example], renderer: Renderer, *, max_tokens: int) -> Iterator[tuple[int, ...]]:
    """The prompts of those that fit with at least one file of their context, where they have any."""
    for example in examples:
        found = infill_prompt(renderer.tokenizer, renderer.family, example, max_tokens=max_tokens)
        num_context = sum(part.role is Role.CONTEXT for part in example.segments)
        if found is not None and (found.num_context_left_out < num_context or not num_context):
            yield tuple(found.token_ids)


def _shown(example: Example) -> str:
    """What a person reads of the prompt: the files that the base sees by name, and the text around the gap."""
    paths = [part.path or "" for part in example.segments if part.role is Role.CONTEXT]
    around = f"{text_of(example, Role.PREFIX)[-600:]}<<< THE GAP >>>{text_of(example, Role.SUFFIX)[:200]}"
    return f"context for the base: {', '.join(dict.fromkeys(paths))}\n\n{around}"
