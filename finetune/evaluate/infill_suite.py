"""The infill suite: both models fill gaps in held-out files greedily; the author's text says how near they came."""

import json
from collections.abc import Callable, Mapping, Sequence

from finetune.contracts.dataset import ReasonCount
from finetune.contracts.dataset import Task as RowTask
from finetune.contracts.evaluation import Answer, Finding, PairedRow, SuiteName
from finetune.contracts.io import digest_text
from finetune.evaluate.generate import fill_in
from finetune.evaluate.heldout import choose_examples
from finetune.evaluate.identifiers import CodeNames
from finetune.evaluate.infill import Gap, Gaps, choose_gaps
from finetune.evaluate.metric import Metric
from finetune.evaluate.similarity import edit_similarity, exact_match
from finetune.evaluate.suite import Measured, Subject, Task, batches
from finetune.evaluate.symbols import RepositoryNames
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import OpenDataset
from finetune.render.rows import Renderer

# of all metrics here; docs/evaluation.md has them in words
DEFINITION = 1
SHOWN_LINES = 12
EXACT_MATCH = Metric(
    suite=SuiteName.INFILL,
    name="infill exact match",
    unit="share",
    direction="higher is better",
    kind="pass or fail",
    by=("group", "slice", "language", "repo"),
)
EDIT_SIMILARITY = Metric(
    suite=SuiteName.INFILL,
    name="infill edit similarity",
    unit="0 to 1",
    direction="higher is better",
    kind="mean",
    by=("group", "slice", "language", "repo"),
)
IDENTIFIER_F1 = Metric(
    suite=SuiteName.INFILL,
    name="infill identifier F1",
    unit="0 to 1",
    direction="higher is better",
    kind="mean",
    by=("group",),
)
KNOWN_CALLS = Metric(
    suite=SuiteName.INFILL,
    name="infill calls that resolve",
    unit="share",
    direction="higher is better",
    kind="mean",
)


class InfillSuite:
    """Gaps to fill. names knows what each repository calls and defines."""

    name = SuiteName.INFILL
    metrics = (EXACT_MATCH, EDIT_SIMILARITY, IDENTIFIER_F1, KNOWN_CALLS)

    def __init__(
        self,
        gaps: Gaps,
        renderer: Renderer,
        section: EvaluateSection,
        *,
        names: Mapping[str, RepositoryNames],
    ) -> None:
        self._gaps = gaps
        self._renderer = renderer
        self._section = section
        self._names = names
        self.tasks = tuple(_task(gap) for gap in gaps.chosen)
        prompts = [[gap.example_id, list(gap.prompt), gap.wanted] for gap in gaps.chosen]
        known = {repo: found.digest for repo, found in names.items()}
        settings = [DEFINITION, section.max_new_tokens, section.batch_rows]
        self.digest = digest_text(json.dumps([*settings, known, prompts]))

    def left_out(self) -> tuple[ReasonCount, ...]:
        return self._gaps.left_out

    def findings(self, rows: Sequence[PairedRow], answers: Sequence[Answer]) -> tuple[Finding, ...]:
        return ()

    @property
    def max_new_tokens(self) -> int:
        """Tokens that an answer may have."""
        return self._section.max_new_tokens

    def prompts(self) -> dict[str, tuple[int, ...]]:
        """What the models are asked, as token ids, by task."""
        return {gap.example_id: gap.prompt for gap in self._gaps.chosen}

    def measure(self, subject: Subject, task_ids: Sequence[str], *, told: Callable[[Measured], None]) -> None:
        wanted = frozenset(task_ids)
        gaps = self._gaps.chosen
        for places in batches([len(gap.prompt) for gap in gaps], self._section.batch_rows):
            chosen = [gaps[place] for place in places]
            if wanted.isdisjoint(gap.example_id for gap in chosen):
                continue
            answers = fill_in(
                subject.model,
                [gap.prompt for gap in chosen],
                self._renderer,
                max_new_tokens=self.max_new_tokens,
                batch_rows=len(chosen),
            )
            for gap, answer in zip(chosen, answers, strict=True):
                if gap.example_id in wanted:
                    told(Measured(gap.example_id, self._values(gap, answer), answer=answer))

    def _values(self, gap: Gap, answer: str) -> dict[str, float]:
        written, meant = CodeNames.of(answer, gap.place.language), CodeNames.of(gap.wanted, gap.place.language)
        values = {
            EXACT_MATCH.name: float(exact_match(answer, gap.wanted)),
            EDIT_SIMILARITY.name: edit_similarity(answer, gap.wanted),
        }
        shared = written.overlap(meant)
        if shared is not None:
            values[IDENTIFIER_F1.name] = shared
        resolved = self._names[gap.place.repo].share_resolved(written.calls, gap.before)
        if resolved is not None:
            values[KNOWN_CALLS.name] = resolved
        return values


def infill_suite(dataset: OpenDataset, renderer: Renderer, section: EvaluateSection) -> InfillSuite | None:
    """The gaps that section asks for; None when there is none that both models could fill."""
    gaps = choose_gaps(
        choose_examples(dataset, [RowTask.INFILL], seed=section.seed),
        renderer,
        max_rows=section.infill_rows,
        max_new_tokens=section.max_new_tokens,
    )
    if not gaps.chosen:
        return None
    names = RepositoryNames.of_dataset(dataset, {gap.place.repo for gap in gaps.chosen})
    return InfillSuite(gaps, renderer, section, names=names)


def _task(gap: Gap) -> Task:
    return Task(
        id=gap.example_id,
        repo=gap.place.repo,
        path=gap.place.path,
        cluster=gap.place.cluster,
        language=gap.place.language,
        group=gap.stratum,
        slice=gap.place.slice,
        prompt="\n".join(gap.before.splitlines()[-SHOWN_LINES:]),
        wanted=gap.wanted,
    )
