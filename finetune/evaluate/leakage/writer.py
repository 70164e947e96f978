"""Writer: what suites need of a renderer and a recipe to make prompts and to let a model continue them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from finetune.evaluate.generate import greedy
from finetune.evaluate.suite import batches
from finetune.families.base import Piece, encode_pieces
from finetune.render.rows import Renderer


@dataclass(frozen=True, slots=True)
class Writer:
    """renderer gives tokens; batch_rows prompts are continued at once, pad_token fills the short ones."""

    renderer: Renderer
    pad_token: int
    batch_rows: int

    def document(self, text: str) -> list[int]:
        """Token ids of the beginning of a raw document."""
        return encode_pieces(self.renderer.tokenizer, [*self.renderer.family.opening(), Piece(text)])

    def divided(self, before: str, text: str) -> tuple[list[int], int]:
        """Token ids of a document that begins with both, and where the first token stands that text has a part in."""
        whole, start = self.document(before + text), self.document(before)
        return whole, sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(whole, start, strict=False)))

    def text(self, token_ids: Sequence[int]) -> str:
        """The text that tokens spell."""
        if not token_ids:
            return ""
        return str(self.renderer.tokenizer.decode(token_ids, clean_up_tokenization_spaces=False))

    def stops(self) -> frozenset[int]:
        """What ends a text or an answer."""
        family = self.renderer.family
        names = {*family.infill_stops, family.document_end, family.turn_end}
        return frozenset(map(self.renderer.tokenizer.convert_tokens_to_ids, names))

    def continued(
        self, model: Any, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, wanted: Callable[[int], bool]
    ) -> Iterator[tuple[int, list[int]]]:
        """The place of each wanted prompt with its greedy continuation, batch by batch as in suite.batches."""
        for places in batches([len(prompt) for prompt in prompts], self.batch_rows):
            if not any(map(wanted, places)):
                continue
            answers = greedy(
                model,
                [prompts[place] for place in places],
                stops=self.stops(),
                max_new_tokens=max_new_tokens,
                pad_token=self.pad_token,
                batch_rows=len(places),
            )
            yield from ((place, answer) for place, answer in zip(places, answers, strict=True) if wanted(place))
