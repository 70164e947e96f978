"""A cache of a kind that rows cannot be added to is refused by name."""

import pytest
from transformers.cache_utils import DynamicCache, StaticLayer

from finetune.contracts.errors import BaseModelError
from serving.engines.cache import check_layers


def test_a_strange_layer_is_named():
    cache = DynamicCache()
    check_layers(cache)
    cache.layers = [StaticLayer(max_cache_len=4)]
    with pytest.raises(BaseModelError, match="StaticLayer"):
        check_layers(cache)
