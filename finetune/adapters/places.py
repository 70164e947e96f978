"""Which tensors of a checkpoint hold which parameters of the text model.

The names differ where the checkpoint is that of the multimodal class, or keeps each expert apart.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from finetune.contracts.errors import BaseModelError
from finetune.families.base import Family
from finetune.model.identity import HINT

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """What one tensor of the checkpoint holds of a parameter.

    expert None: all of it. Else siblings are the tensors that make up this expert's matrix, one below the other.
    """

    parameter: str
    expert: int | None = None
    siblings: tuple[str, ...] = ()


def find_places(wanted: Mapping[str, Shape], present: Mapping[str, Shape], family: Family) -> dict[str, Place]:
    """Places by name of the checkpoint's tensor, for all wanted parameters of the text model.

    wanted and present map names to shapes. Raises BaseModelError naming a parameter that the checkpoint does not hold,
    or not in its shape.
    """
    found: dict[str, Place] = {}
    for parameter, shape in wanted.items():
        places = _places(parameter, shape, present=present, family=family)
        if places is None:
            raise BaseModelError(f"The checkpoint holds no {parameter} of shape {list(shape)}.", HINT)
        found |= places
    return found


def _places(parameter: str, shape: Shape, *, present: Mapping[str, Shape], family: Family) -> dict[str, Place] | None:
    for name in _names(parameter, family):
        if name in present:
            return {name: Place(parameter)} if present[name] == shape else None
        places = _split(name, parameter, shape, family=family)
        if places and all(part in present for part in places):
            return places if _fit(places, shape, present) else None
    return None


def _names(parameter: str, family: Family) -> Iterator[str]:
    yield parameter
    if family.wrapper:
        yield f"{family.wrapper}.{parameter.removeprefix('model.')}"


def _split(name: str, parameter: str, shape: Shape, *, family: Family) -> dict[str, Place]:
    """Places of a fused tensor of this name, each expert apart; none where it is not fused."""
    for fused, parts in family.split_experts.items():
        if name.endswith(f".{fused}"):
            stem = name.removesuffix(fused)
            groups = [tuple(stem + part.format(expert) for part in parts) for expert in range(shape[0])]
            return {part: Place(parameter, expert, group) for expert, group in enumerate(groups) for part in group}
    return {}


def _fit(places: Mapping[str, Place], shape: Shape, present: Mapping[str, Shape]) -> bool:
    rows = sum(present[part][0] for part in places)
    return rows == shape[0] * shape[1] and all(present[part][1:] == shape[2:] for part in places)
