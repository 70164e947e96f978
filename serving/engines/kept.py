"""Prompts that were read, for those that begin alike: under the adapter they were read with, and no other.

What is common to several prompts is held once: a tree of stretches of tokens for each slot. Keys and values can be cut
after any token. The states of recurrent layers, and windows, are true at one place alone; such places are borders.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from serving.engines.cache import Columns, columns_of, emptied, filled, states_of

# A border is as large as the columns of a thousand tokens: it has to spare the reading of so many
MIN_GAIN_TOKENS = 64


@dataclass(frozen=True, slots=True)
class PromptStart:
    """What is known of a prompt: its first num_tokens are in cache, which is the reader's own.

    logits (vocabulary) are those behind the whole prompt, None while some of it is to be read. At parting it leaves
    what is kept, and nothing can be taken up there yet; 0 where there is no such place.
    """

    num_tokens: int = 0
    cache: Any = None
    logits: torch.Tensor | None = None
    parting: int = 0


@dataclass(frozen=True, slots=True)
class Border:
    """A place where reading can be taken up: the states there, and the logits (vocabulary) behind it."""

    states: tuple[torch.Tensor, ...]
    logits: torch.Tensor

    @property
    def num_bytes(self) -> int:
        """What it takes of the memory."""
        return self.logits.nbytes + sum(state.nbytes for state in self.states)

    def copied(self) -> "Border":
        """A copy that holds no memory but its own."""
        return Border(tuple(state.clone() for state in self.states), self.logits.clone())


@dataclass(eq=False, slots=True)
class Stretch:
    """Tokens that follow those of the stretch above, which is None for the root of a slot, and what was read of them.

    border is that behind the last token, None where none was kept. below is by first token. used and border_used say
    when, on the cache's clock.
    """

    token_ids: tuple[int, ...] = ()
    columns: Columns = field(default_factory=Columns)
    above: "Stretch | None" = None
    border: Border | None = None
    below: "dict[int, Stretch]" = field(default_factory=dict)
    used: int = 0
    border_used: int = 0

    @property
    def num_bytes(self) -> int:
        """What it takes of the memory, without those below."""
        return self.columns.num_bytes + (self.border.num_bytes if self.border else 0)


class KeptPrompts:
    """At most max_bytes of prompts; what was not used for the longest time goes first. For the model's thread alone.

    num_bytes is what is held now.
    """

    def __init__(self, *, max_bytes: int) -> None:
        """max_bytes 0 keeps nothing."""
        self._max_bytes = max_bytes
        self._roots: dict[str | None, Stretch] = {}
        self._clock = itertools.count(1)
        self.num_bytes = 0
        self._empty: Any = None
        self._has_states = False

    def begin(self, slot: str | None, token_ids: Sequence[int]) -> PromptStart:
        """What is known of a prompt under slot; nothing when the device has no memory for it, and all is given back."""
        try:
            return self._begin(slot, token_ids)
        except torch.OutOfMemoryError:
            self.clear()
            return PromptStart()

    def keep(self, slot: str | None, token_ids: Sequence[int], *, cache: Any, logits: torch.Tensor) -> None:
        """Keep a copy of cache, which has read token_ids and nothing else; logits (vocabulary) are those behind them.

        When there is no room for it among max_bytes nothing changes; when the device has none, all is given back.
        """
        path = self._path(slot, token_ids)
        self._touch(path)
        if _last_with_border(path)[0] == len(token_ids):
            return
        columns, border = columns_of(cache), Border(states_of(cache), logits)
        if columns.num_bytes + border.num_bytes > self._max_bytes:
            return
        while self.num_bytes + border.num_bytes + self._new_part(slot, token_ids, columns).num_bytes > self._max_bytes:
            self.drop_oldest()
        try:
            self._add(slot, tuple(token_ids), cache=cache, border=border.copied())
        except torch.OutOfMemoryError:
            self.clear()

    def forget(self, slot: str | None) -> None:
        """Give back all that was read under slot."""
        if root := self._roots.pop(slot, None):
            self.num_bytes -= sum(stretch.num_bytes for stretch in _with_those_below([root]))

    def clear(self) -> None:
        """Give back everything."""
        self._roots.clear()
        self.num_bytes = 0

    def drop_oldest(self) -> bool:
        """Give back what was not used for the longest time: an end, or a border within; whether there was something."""
        stretches = list(_with_those_below(self._roots.values()))
        ends = [(one.used, one) for one in stretches if one.above and not one.below]
        borders = [(one.border_used, one) for one in stretches if one.border and one.below]
        _, oldest = min([*ends, *borders], key=lambda pair: pair[0], default=(0, None))
        if oldest is None:
            return False
        self.num_bytes -= oldest.border.num_bytes if oldest.border else 0
        oldest.border = None
        if not oldest.below:
            above = self._take_off(oldest)
            # an end where nothing can be taken up is of no use
            while self._has_states and above.above and not (above.below or above.border):
                above = self._take_off(above)
        self._roots = {slot: root for slot, root in self._roots.items() if root.below}
        return True

    def _begin(self, slot: str | None, token_ids: Sequence[int]) -> PromptStart:
        path = self._path(slot, token_ids)
        self._touch(path)
        num_common = _num_agreed(path)
        num_known, last = _last_with_border(path)
        if last and last.border:
            last.border_used = last.used
            if num_known == len(token_ids):
                return PromptStart(num_known, self._cache(path, num_known, border=last.border), last.border.logits)
        if not self._has_states:
            # the last token is read in any case, for its logits
            num_known = min(num_common, len(token_ids) - 1)
            return PromptStart(num_known, self._cache(path, num_known)) if num_known > 0 else PromptStart()
        parting = num_common if num_common - num_known >= MIN_GAIN_TOKENS else 0
        if last is None:
            return PromptStart(parting=parting)
        return PromptStart(num_known, self._cache(path, num_known, border=last.border), parting=parting)

    def _path(self, slot: str | None, token_ids: Sequence[int]) -> list[tuple[Stretch, int]]:
        """The stretches with which token_ids agree, from the root, and in how many of its tokens each does."""
        stretch = self._roots.get(slot)
        path: list[tuple[Stretch, int]] = []
        place = 0
        while stretch:
            agreed = _num_common(stretch.token_ids, tuple(token_ids[place : place + len(stretch.token_ids)]))
            path.append((stretch, agreed))
            place += agreed
            whole = agreed == len(stretch.token_ids) and place < len(token_ids)
            stretch = stretch.below.get(token_ids[place]) if whole else None
        return path

    def _touch(self, path: Sequence[tuple[Stretch, int]]) -> None:
        now = next(self._clock)
        for stretch, _ in path:
            stretch.used = now

    def _cache(self, path: Sequence[tuple[Stretch, int]], num_tokens: int, *, border: Border | None = None) -> Any:
        columns, left = [], num_tokens
        for stretch, agreed in path[1:]:
            columns.append(stretch.columns.part(0, min(agreed, left)))
            left -= min(agreed, left)
        return filled(self._empty, columns, border.states if border else (), num_tokens=num_tokens)

    def _new_part(self, slot: str | None, token_ids: Sequence[int], columns: Columns) -> Columns:
        """Of the columns of token_ids, not copied, those that are not held yet."""
        return columns.part(_num_agreed(self._path(slot, token_ids)), len(token_ids))

    def _add(self, slot: str | None, token_ids: tuple[int, ...], *, cache: Any, border: Border) -> None:
        if self._empty is None:
            self._empty, self._has_states = emptied(cache), bool(border.states)
        path = self._path(slot, token_ids) or [(self._roots.setdefault(slot, Stretch()), 0)]
        place = _num_agreed(path)
        columns = self._new_part(slot, token_ids, columns_of(cache)).copied()
        stretch = _upper_part(*path[-1])
        if place < len(token_ids):
            new = Stretch(token_ids[place:], columns, stretch)
            stretch.below[token_ids[place]] = new
            stretch = new
        stretch.border = border
        self.num_bytes += columns.num_bytes + border.num_bytes
        stretch.used = stretch.border_used = next(self._clock)

    def _take_off(self, stretch: Stretch) -> Stretch:
        """Take an end without a border off the tree; the stretch above."""
        assert stretch.above and not stretch.border
        del stretch.above.below[stretch.token_ids[0]]
        self.num_bytes -= stretch.num_bytes
        return stretch.above


def _with_those_below(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    waiting = list(stretches)
    while waiting:
        stretch = waiting.pop()
        waiting += stretch.below.values()
        yield stretch


def _num_agreed(path: Sequence[tuple[Stretch, int]]) -> int:
    return sum(agreed for _, agreed in path)


def _last_with_border(path: Sequence[tuple[Stretch, int]]) -> tuple[int, Stretch | None]:
    """The last stretch on a path that ends in a border, and the tokens up to there; 0 and None where there is none."""
    found: tuple[int, Stretch | None] = (0, None)
    place = 0
    for stretch, agreed in path:
        place += agreed
        if stretch.border and agreed == len(stretch.token_ids):
            found = (place, stretch)
    return found


def _upper_part(stretch: Stretch, num_tokens: int) -> Stretch:
    """A stretch with its first num_tokens alone; if there are more, they are cut off and lie below."""
    if num_tokens == len(stretch.token_ids):
        return stretch
    assert stretch.above
    first, rest = stretch.token_ids[:num_tokens], stretch.token_ids[num_tokens:]
    columns = stretch.columns.part(0, num_tokens).copied()
    remaining = stretch.columns.part(num_tokens, len(stretch.token_ids)).copied()
    upper = Stretch(first, columns, stretch.above, below={rest[0]: stretch}, used=stretch.used)
    stretch.above.below[first[0]] = upper
    stretch.token_ids, stretch.columns, stretch.above = rest, remaining, upper
    return upper


def _num_common(some: Sequence[int], others: Sequence[int]) -> int:
    """In how many first tokens the two agree."""
    if some == others:
        return len(some)
    pairs = zip(some, others, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(some), len(others)))
