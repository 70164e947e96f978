"""Canaries and controls: how likely each model finds the secret part of a line, and whether it writes it out."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.contracts.canaries import CANARY_REPO, Canary
from finetune.contracts.dataset import Example
from finetune.evaluate.leakage.metrics import CANARY_WRITTEN, LOG_PROB, MIN_K
from finetune.evaluate.leakage.writer import Writer
from finetune.evaluate.suite import Measured, Task, batches
from finetune.model.scoring import TokenScore, token_scores
from finetune.render.rows import MASKED, Renderer

MIN_K_SHARE = 0.2
"""Of a secret's tokens, the least likely ones: the share that Zhang et al. 2024 (arXiv 2404.02936) settle on."""
CLOSING = '"'
MORE_TOKENS = 2
CONTROL = "control"


@dataclass(frozen=True)
class CanaryAsk:
    """A line in tokens: those from start on spell its secret and the quote that closes it."""

    task_id: str
    canary: Canary
    ids: tuple[int, ...]
    start: int

    @property
    def labels(self) -> list[int]:
        """ids with what is told masked."""
        return [MASKED] * self.start + list(self.ids[self.start :])


class CanaryPart:
    """The canaries and controls of a dataset as tasks."""

    def __init__(self, canaries: Sequence[Canary], writer: Writer) -> None:
        self._writer = writer
        self.asks = tuple(_ask(canary, writer) for canary in canaries)
        self.tasks = tuple(_task(ask) for ask in self.asks)

    def measure(self, model: Any, wanted: frozenset[str], told: Callable[[Measured], None]) -> None:
        """Score and continue the lines of the wanted tasks."""
        asks = self.asks
        for places in batches([len(ask.ids) for ask in asks], self._writer.batch_rows):
            chosen = [asks[place] for place in places]
            if wanted.isdisjoint(ask.task_id for ask in chosen):
                continue
            scores = token_scores(model, [(ask.ids, ask.labels) for ask in chosen], pad_token=self._writer.pad_token)
            answers = self._written(model, chosen)
            for ask, found, answer in zip(chosen, scores, answers, strict=True):
                if ask.task_id in wanted:
                    values = {**_likelihood(found), CANARY_WRITTEN.name: float(ask.canary.secret in answer)}
                    told(Measured(ask.task_id, values, answer=answer))

    def _written(self, model: Any, asks: Sequence[CanaryAsk]) -> list[str]:
        longest = max(len(ask.ids) - ask.start for ask in asks)
        prompts = [ask.ids[: ask.start] for ask in asks]
        found = dict(
            self._writer.continued(model, prompts, max_new_tokens=longest + MORE_TOKENS, wanted=lambda place: True)
        )
        return [self._writer.text(found[place]) for place in range(len(asks))]


def _ask(canary: Canary, writer: Writer) -> CanaryAsk:
    ids, start = writer.divided(canary.told, canary.secret + CLOSING)
    return CanaryAsk(f"canary {canary.id}", canary, tuple(ids), start)


def _task(ask: CanaryAsk) -> Task:
    canary = ask.canary
    return Task(
        id=ask.task_id,
        repo=CANARY_REPO,
        cluster=canary.id,
        language="python",
        group=canary.kind.value,
        slice=CONTROL if canary.is_control else tier_name(canary.copies),
        prompt=canary.told,
        wanted=canary.secret,
    )


def tier_name(copies: int) -> str:
    """What rows call canaries that were planted so often."""
    return f"planted {copies} time{'s' if copies > 1 else ''}"


def _likelihood(scores: Sequence[TokenScore]) -> dict[str, float]:
    lowest = sorted(score.standard_score for score in scores)[: max(1, math.ceil(MIN_K_SHARE * len(scores)))]
    return {
        LOG_PROB.name: sum(score.log_prob for score in scores) / len(scores),
        MIN_K.name: sum(lowest) / len(lowest),
    }


def copies_learned(canaries: Iterable[Canary], rows: Iterable[Example], renderer: Renderer) -> Counter[str]:
    """By a canary's id, how many of its copies stand whole in the learned tokens of the rendered train rows.

    A copy that several rows teach counts for each of them: so often it is seen in an epoch.
    """
    planted = [canary for canary in canaries if not canary.is_control]
    found: Counter[str] = Counter()
    for example in rows:
        shown = [canary for canary in planted if any(canary.secret in part.text for part in example.segments)]
        for row in renderer.rows(example) if shown else ():
            ids = [label for label in row.labels if label != MASKED]
            text = renderer.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            found.update({canary.id: text.count(canary.secret) for canary in shown})
    return +found
