"""How llama.cpp names an architecture and orders its rows, for adapters that are written as GGUF.

Its converters put some rows or columns of the base elsewhere, so those of an adapter's factors must go there too. Read
in llama.cpp's conversion/llama.py and conversion/qwen.py, 2026-10.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Config = Mapping[str, object]
Order = Callable[[str, Config], tuple[int, ...] | None]


def as_it_is(module: str, config: Config) -> tuple[int, ...] | None:
    """No row or column has another place."""
    return None


@dataclass(frozen=True)
class GgufForm:
    """architecture is llama.cpp's name of it.

    rows and columns give, for the last name of a linear map and the text configuration, where each row of its output
    or column of its input comes from; None: as it is.
    """

    architecture: str
    rows: Order = as_it_is
    columns: Order = as_it_is


def rotary_rows(module: str, config: Config) -> tuple[int, ...] | None:
    """Queries and keys of Llama: the two halves of a head, which rotate together, become neighbours."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(module)
    if heads is None:
        return None
    size = number(config, "head_dim", default=number(config, "hidden_size") // number(config, "num_attention_heads"))
    half = size // 2
    count = number(config, heads, default=number(config, "num_attention_heads"))
    return tuple(
        head * size + part * half + place for head in range(count) for place in range(half) for part in range(2)
    )


def value_head_rows(module: str, config: Config) -> tuple[int, ...] | None:
    """Gated DeltaNet: value heads, grouped by their key head, become tiled over the key heads.

    In in_proj_qkv queries and keys lie before them and stay.
    """
    if module == "in_proj_z":
        return _tiled(config)
    if module != "in_proj_qkv":
        return None
    before = 2 * number(config, "linear_num_key_heads") * number(config, "linear_key_head_dim")
    return (*range(before), *(before + row for row in _tiled(config)))


def value_head_columns(module: str, config: Config) -> tuple[int, ...] | None:
    """Gated DeltaNet: what out_proj reads lies as value_head_rows has put it."""
    return _tiled(config) if module == "out_proj" else None


def _tiled(config: Config) -> tuple[int, ...]:
    keys, values = number(config, "linear_num_key_heads"), number(config, "linear_num_value_heads")
    size, group = number(config, "linear_value_head_dim"), values // keys
    return tuple(
        (key * group + member) * size + place for member in range(group) for key in range(keys) for place in range(size)
    )


def number(config: Config, key: str, *, default: int | None = None) -> int:
    """A whole number of the configuration; default where it is not there or null."""
    found = config.get(key)
    if found is None and default is not None:
        return default
    assert isinstance(found, int), f"{key} is {found!r}"
    return found
