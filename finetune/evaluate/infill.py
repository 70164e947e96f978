"""Gaps in held-out files: both models write into them greedily, and the author's text says how near they came."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetune.contracts.dataset import Example, ReasonCount, Role
from finetune.evaluate.generate import greedy
from finetune.evaluate.heldout import cluster_of, path_of
from finetune.families.base import Piece, encode_pieces
from finetune.render.infill import text_of
from finetune.render.rows import Renderer
from finetune.terminal.progress import Progress

STAGE = "evaluate"


@dataclass(frozen=True)
class Gap:
    """A prompt and the text that its author wrote; stratum is the kind of span."""

    example_id: str
    stratum: str
    cluster: str
    path: str
    prompt: tuple[int, ...]
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
        chosen.append(Gap(example.id, example.stratum, cluster_of(example), path_of(example), tuple(prompt), wanted))
    counts = [ReasonCount(stage=STAGE, reason=name, count=reasons[name]) for name in sorted(reasons)]
    return Gaps(tuple(chosen), tuple(counts))


def fill_gaps(
    model: Any,
    gaps: Sequence[Gap],
    renderer: Renderer,
    *,
    max_new_tokens: int,
    pad_token: int,
    batch_rows: int,
    progress: Progress,
) -> list[str]:
    """What model writes into each gap, greedily, up to one of the family's infill stops."""
    tokenizer = renderer.tokenizer
    names = {*renderer.family.infill_stops, renderer.family.document_end}
    answers = greedy(
        model,
        [gap.prompt for gap in gaps],
        stops=frozenset(tokenizer.convert_tokens_to_ids(name) for name in names),
        max_new_tokens=max_new_tokens,
        pad_token=pad_token,
        batch_rows=batch_rows,
        told=progress.advance,
    )
    return [tokenizer.decode(answer, clean_up_tokenization_spaces=False) for answer in answers]
