"""A batch's cache as rows come and go: keys and values padded on the left, recurrent states one for each row.

These functions reach into transformers' dynamic cache, whose layers are named here; any other kind is refused.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionCacheLayerMixin

from finetune.contracts.errors import BaseModelError


@dataclass(frozen=True, slots=True)
class Columns:
    """Keys and values of a stretch of one row's tokens, a pair for each layer that keeps those of all tokens."""

    pairs: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()

    @property
    def num_bytes(self) -> int:
        """What they take of the memory."""
        return sum(part.nbytes for pair in self.pairs for part in pair)

    def part(self, start: int, end: int) -> "Columns":
        """The tokens from start to end, not copied."""
        return Columns(tuple((keys[..., start:end, :], values[..., start:end, :]) for keys, values in self.pairs))

    def copied(self) -> "Columns":
        """A copy that holds no memory but its own."""
        return Columns(tuple((keys.clone(), values.clone()) for keys, values in self.pairs))


@dataclass(frozen=True, slots=True)
class RowSize:
    """What a row takes of the memory, in bytes: for each token, and for states of one size."""

    token: int
    states: int

    def bytes_of(self, num_rows: int, num_tokens: int) -> int:
        """What rows take that are padded to num_tokens."""
        return num_rows * (num_tokens * self.token + self.states)


def append_rows(cache: Any, other: Any, *, width: int, other_width: int) -> None:
    """Add other's rows behind cache's. The widths are tokens of the longest row of each; rows end at the right."""
    widest = max(width, other_width)
    for own, new in zip(cache.layers, other.layers, strict=True):
        if isinstance(own, LinearAttentionCacheLayerMixin):
            for states in ("conv_states", "recurrent_states"):
                for index, state in getattr(own, states).items():
                    if state is not None:
                        getattr(own, states)[index] = torch.cat((state, getattr(new, states)[index]))
        if isinstance(own, DynamicLayer):
            fitted = [_fit(own, part, widest) for part in (own.keys, own.values)]
            added = [_fit(own, part, widest) for part in (new.keys, new.values)]
            own.keys, own.values = (torch.cat(pair) for pair in zip(fitted, added, strict=True))
            _note_width(own, widest)


def keep_rows(cache: Any, rows: torch.Tensor, *, width: int) -> None:
    """Leave these rows alone, of which the longest has width tokens."""
    cache.reorder_cache(rows)
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer):
            layer.keys, layer.values = (_fit(layer, part, width) for part in (layer.keys, layer.values))
            _note_width(layer, width)


def columns_of(cache: Any) -> Columns:
    """The columns of a cache of one row, not copied."""
    return Columns(tuple((layer.keys, layer.values) for layer in _growing_layers(cache)))


def states_of(cache: Any) -> tuple[torch.Tensor, ...]:
    """What a cache holds beside columns, not copied: it is true behind the last token alone, and changes in place."""
    return tuple(holder[key] for holder, key in _states(cache))


def row_size(cache: Any) -> RowSize:
    """The size of a base's rows, from the cache of one of them. Windows count as if they grew for ever."""
    growing = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    tokens = sum(part.nbytes // part.shape[-2] for layer in growing for part in (layer.keys, layer.values))
    windows = sum(layer.keys.nbytes + layer.values.nbytes for layer in growing if _is_window(layer))
    return RowSize(tokens, sum(state.nbytes for state in states_of(cache)) - windows)


def emptied(cache: Any) -> Any:
    """A cache of the same layers that holds nothing, for filled."""
    columns = (part for pair in columns_of(cache).pairs for part in pair)
    return copy.deepcopy(cache, {id(part): part.new_empty(0) for part in (*states_of(cache), *columns)})


def filled(empty: Any, columns: Sequence[Columns], states: Sequence[torch.Tensor], *, num_tokens: int) -> Any:
    """A cache of one row from copies: columns of stretches that follow each other, and states behind num_tokens."""
    cache = copy.deepcopy(empty)
    for (holder, key), state in zip(_states(cache), states, strict=True):
        holder[key] = state.clone()
    for place, layer in enumerate(_growing_layers(cache)):
        parts = [one.pairs[place] for one in columns]
        layer.keys, layer.values = (torch.cat(part, dim=-2) for part in zip(*parts, strict=True))
    for layer in cache.layers:
        _note_width(layer, num_tokens)
    return cache


def check_layers(cache: Any) -> None:
    """Raise BaseModelError for a cache with a layer that rows cannot be added to."""
    strange = sorted({type(layer).__name__ for layer in _strange_layers(cache)})
    if strange:
        raise BaseModelError(
            f"The base keeps what it has read in {', '.join(strange)}, which this server cannot batch.",
            "Serve a base of a family in docs/families.md.",
        )


def _growing_layers(cache: Any) -> Iterator[Any]:
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer) and not _is_window(layer):
            yield layer


def _states(cache: Any) -> Iterator[tuple[dict[Any, Any], Any]]:
    """Where each state lies: a mapping and its key."""
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            for states in (layer.conv_states, layer.recurrent_states):
                yield from ((states, index) for index, state in states.items() if state is not None)
        if _is_window(layer):
            # tokens that left the window cannot be got back
            yield from ((vars(layer), name) for name in ("keys", "values"))


def _is_window(layer: Any) -> bool:
    return isinstance(layer, DynamicSlidingWindowLayer)


def _strange_layers(cache: Any) -> Iterator[Any]:
    for layer in cache.layers:
        plain = type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
        if not plain and not isinstance(layer, LinearAttentionCacheLayerMixin):
            yield layer


def _fit(layer: Any, part: torch.Tensor, width: int) -> torch.Tensor:
    """part (rows, heads, tokens, size) with width tokens, or as many as the layer looks back."""
    if _is_window(layer):
        width = min(width, layer.sliding_window - 1)
    missing = width - part.shape[-2]
    return F.pad(part, (0, 0, missing, 0)) if missing > 0 else part[..., part.shape[-2] - width :, :]


def _note_width(layer: Any, width: int) -> None:
    if _is_window(layer):
        layer.cumulative_length = width
