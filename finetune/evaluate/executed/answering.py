"""Who answers: a model with its tokenizer here, a script in the tests of the graders."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from finetune.contracts.io import digest_text
from finetune.evaluate.executed.prompt import TaskPrompt
from finetune.evaluate.generate import greedy, sampled
from finetune.evaluate.sampling import Sampling
from finetune.evaluate.suite import Subject
from finetune.model.scoring import pad_token
from finetune.recipe.schema import EvaluateSection
from finetune.render.rows import Renderer

TOP_P = 0.95


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and which answer to it is wanted: 0 the greedy one, 1 and above one that is drawn."""

    prompt: TaskPrompt
    sample: int = 0


class Answering(Protocol):
    """Gives the text of an answer for each of some requests, in their order."""

    def answers(self, subject: Subject, requests: Sequence[Request]) -> list[str]: ...


class ModelAnswering:
    """The subject's own answers, up to the stops of the family."""

    def __init__(self, renderer: Renderer, section: EvaluateSection) -> None:
        self._renderer = renderer
        self._section = section

    def answers(self, subject: Subject, requests: Sequence[Request]) -> list[str]:
        """Each request alike whatever else is asked, but for the rounding of a batch."""
        kinds: defaultdict[tuple[bool, bool], list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            kinds[request.prompt.form == "infill", request.sample == 0].append(place)
        found = [""] * len(requests)
        for (infill, likeliest), places in sorted(kinds.items()):
            chosen = [requests[place] for place in places]
            for place, text in zip(places, self._run(subject, chosen, infill, likeliest=likeliest), strict=True):
                found[place] = text
        return found

    def _run(self, subject: Subject, requests: Sequence[Request], infill: bool, *, likeliest: bool) -> list[str]:
        tokenizer, section = self._renderer.tokenizer, self._section
        prompts = [request.prompt.token_ids for request in requests]
        stops, filler = self._stops(infill), pad_token(tokenizer)
        if likeliest:
            tokens = greedy(
                subject.model,
                prompts,
                stops=stops,
                max_new_tokens=section.executed_new_tokens,
                pad_token=filler,
                batch_rows=section.batch_rows,
            )
        else:
            tokens = sampled(
                subject.model,
                prompts,
                sampling=Sampling(section.executed_temperature, TOP_P),
                seeds=[seed_of(request, section.seed) for request in requests],
                stops=stops,
                max_new_tokens=section.executed_new_tokens,
                pad_token=filler,
                batch_rows=section.batch_rows,
            )
        return [tokenizer.decode(answer, clean_up_tokenization_spaces=False) for answer in tokens]

    def _stops(self, infill: bool) -> frozenset[int]:
        family = self._renderer.family
        names = {*family.infill_stops, family.document_end} if infill else {family.turn_end, family.document_end}
        return frozenset(self._renderer.tokenizer.convert_tokens_to_ids(name) for name in names)


def seed_of(request: Request, seed: int) -> int:
    """The seed of a drawn answer: of the task, the sample's number and the evaluation's seed alone."""
    return int(digest_text(f"{seed} {request.prompt.task_id} {request.sample}")[:12], 16)
