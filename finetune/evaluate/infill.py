"""Gaps in held-out files, chosen before any model is asked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.contracts.dataset import Example, ReasonCount, Role
from finetune.evaluate.heldout import Place, place_of
from finetune.families.base import Piece, encode_pieces
from finetune.render.infill import text_of
from finetune.render.rows import Renderer

STAGE = "evaluate"


@dataclass(frozen=True)
class Gap:
    """A prompt and the text that its author wrote; stratum is the kind of span, before the code above the gap."""

    example_id: str
    stratum: str
    place: Place
    prompt: tuple[int, ...]
    before: str
    wanted: str


@dataclass(frozen=True)
class Gaps:
    """The gaps to fill, and how many were passed over on the way, by reason."""

    chosen: tuple[Gap, ...]
    left_out: tuple[ReasonCount, ...]


def choose_gaps(examples: Sequence[Example], renderer: Renderer, *, max_rows: int, max_new_tokens: int) -> Gaps:
    """The first max_rows infill examples whose target fits in max_new_tokens; a longer one could not be matched."""
    chosen: list[Gap] = []
    reasons: Counter[str] = Counter()
    for example in examples:
        if len(chosen) == max_rows:
            break
        wanted = text_of(example, Role.TARGET)
        if not wanted.strip():
            reasons["gap passed over: its text is blank"] += 1
            continue
        prompt = renderer.prompt(example, reserve_tokens=max_new_tokens)
        if prompt is None or len(encode_pieces(renderer.tokenizer, [Piece(wanted)])) > max_new_tokens:
            reasons["gap passed over: its text exceeds max_new_tokens"] += 1
            continue
        before = text_of(example, Role.PREFIX)
        chosen.append(Gap(example.id, example.stratum, place_of(example), tuple(prompt), before, wanted))
    counts = [ReasonCount(stage=STAGE, reason=name, count=reasons[name]) for name in sorted(reasons)]
    return Gaps(tuple(chosen), tuple(counts))
