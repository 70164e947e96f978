"""Rows that take their steps together, and the reading of a prompt before its row joins them."""

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch

from serving.engines.cache import append_rows, keep_rows
from serving.engines.kept import KeptPrompts, PromptStart
from serving.engines.slots import AdapterSlots


class BatchRow(Protocol):
    """slot names the row's adapter, None is the base; next_token was chosen last and has not been read yet."""

    slot: str | None
    next_token: int


RowT = TypeVar("RowT", bound=BatchRow)


class PromptReader:
    """Reads one prompt, a piece at a time, so that other rows take their steps in between.

    What kept knows of it under slot is not read again, and what is read is kept.
    """

    def __init__(
        self,
        model: Any,
        token_ids: Sequence[int],
        *,
        device: str,
        kept: KeptPrompts | None = None,
        slot: str | None = None,
    ) -> None:
        """kept None reads all of it and keeps nothing."""
        self._model = model
        self._token_ids = token_ids
        self._device = device
        self._kept = kept
        self._slot = slot
        self._start: PromptStart | None = None
        self._num_read = 0
        self._logits: torch.Tensor | None = None
        self.cache: Any = None

    @property
    def num_cached(self) -> int:
        """Tokens of the prompt that were known already; 0 before the first piece."""
        return self._start.num_tokens if self._start else 0

    def read(self, num_tokens: int) -> torch.Tensor | None:
        """Read up to num_tokens more; the logits (vocabulary) behind the last one, None while some are left."""
        start = self._start or self._begin()
        if start.logits is not None:
            return start.logits
        end = min(self._num_read + num_tokens, len(self._token_ids))
        if self._num_read < start.parting < end:
            end = start.parting
        output = self._model(
            input_ids=torch.tensor([list(self._token_ids[self._num_read : end])], device=self._device),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.cache = output.past_key_values
        self._num_read = end
        self._logits = output.logits[0, -1]
        num_left = len(self._token_ids) - end
        # the next prompt may part from this one a few tokens before its end, where a template opens the answer
        if num_left <= num_tokens or end == start.parting:
            self.keep()
        return None if num_left else self._logits

    def keep(self) -> None:
        """Keep what was read so far; when the reading is given up, one that begins alike may come."""
        if self._kept and self._logits is not None:
            read = self._token_ids[: self._num_read]
            self._kept.keep(self._slot, read, cache=self.cache, logits=self._logits)

    def _begin(self) -> PromptStart:
        start = self._kept.begin(self._slot, self._token_ids) if self._kept else PromptStart()
        self._start, self._num_read, self.cache = start, start.num_tokens, start.cache
        return start


class Batch(Generic[RowT]):
    """Rows with their caches. Columns are tokens, padded on the left: a row gives what it gives alone."""

    def __init__(self, model: Any, slots: AdapterSlots, *, device: str) -> None:
        self.rows: list[RowT] = []
        self._model = model
        self._slots = slots
        self._device = device
        self._lengths: list[int] = []
        self._cache: Any = None

    @property
    def num_tokens(self) -> int:
        """Tokens of the longest row, to which the others are padded."""
        return max(self._lengths, default=0)

    def join(self, row: RowT, cache: Any, *, num_tokens: int) -> None:
        """Add a row whose num_tokens tokens are in cache, which belongs to the batch from now on."""
        if self.rows:
            append_rows(self._cache, cache, width=self.num_tokens, other_width=num_tokens)
        else:
            self._cache = cache
        self.rows.append(row)
        self._lengths.append(num_tokens)

    def keep(self, places: Sequence[int]) -> None:
        """Leave the rows at these places alone."""
        if len(places) == len(self.rows):
            return
        self.rows = [self.rows[place] for place in places]
        self._lengths = [self._lengths[place] for place in places]
        if self.rows:
            keep_rows(self._cache, torch.tensor(places, device=self._device), width=self.num_tokens)
        else:
            self._cache = None

    def step(self) -> torch.Tensor:
        """Read each row's next token; logits (rows, vocabulary) of the tokens behind."""
        self._slots.select([row.slot for row in self.rows])
        lengths = torch.tensor(self._lengths, device=self._device)[:, None]
        output = self._model(
            input_ids=torch.tensor([[row.next_token] for row in self.rows], device=self._device),
            attention_mask=self._mask(lengths),
            position_ids=lengths,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        self._lengths = [length + 1 for length in self._lengths]
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _mask(self, lengths: torch.Tensor) -> torch.Tensor | None:
        """(rows, tokens) from lengths (rows, 1), with 0 where a row is padded; None where none is."""
        longest = self.num_tokens
        if min(self._lengths) == longest:
            return None
        columns = torch.arange(longest + 1, device=self._device)[None]
        return (columns >= longest - lengths).long()
