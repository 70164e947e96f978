"""A batch's cache as rows come and go: keys and values padded on the left, recurrent states one for each row.

These functions reach into transformers' dynamic cache, whose layers are named here; any other kind is refused.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionCacheLayerMixin

from finetune.contracts.errors import BaseModelError


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


def check_layers(cache: Any) -> None:
    """Raise BaseModelError for a cache with a layer that rows cannot be added to."""
    strange = sorted({type(layer).__name__ for layer in _strange_layers(cache)})
    if strange:
        raise BaseModelError(
            f"The base keeps what it has read in {', '.join(strange)}, which this server cannot batch.",
            "Serve a base of a family in docs/families.md.",
        )


def _strange_layers(cache: Any) -> Iterator[Any]:
    for layer in cache.layers:
        plain = type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
        if not plain and not isinstance(layer, LinearAttentionCacheLayerMixin):
            yield layer


def _fit(layer: Any, part: torch.Tensor, width: int) -> torch.Tensor:
    """part (rows, heads, tokens, size) with width tokens, or as many as the layer looks back."""
    if isinstance(layer, DynamicSlidingWindowLayer):
        width = min(width, layer.sliding_window - 1)
    missing = width - part.shape[-2]
    return F.pad(part, (0, 0, missing, 0)) if missing > 0 else part[..., part.shape[-2] - width :, :]


def _note_width(layer: Any, width: int) -> None:
    if isinstance(layer, DynamicSlidingWindowLayer):
        layer.cumulative_length = width
