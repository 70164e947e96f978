"""Fill a recipe's gaps from the family and the defaults, and keep where each value came from."""

import difflib
import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from finetune.contracts.adapter import Quantization
from finetune.contracts.bases import find_base
from finetune.contracts.egress import EgressMode
from finetune.contracts.errors import BaseModelError, RecipeError
from finetune.contracts.io import digest_json
from finetune.families.base import Family
from finetune.families.registry import family_for
from finetune.recipe.load import HINT, LoadedRecipe
from finetune.recipe.schema import (
    EMBEDDED_BASE,
    DataSection,
    EvaluateSection,
    Section,
    TrackSection,
    TrainSection,
)

PATH_HINT = (
    "Give base.path the folder of a downloaded model, with its config.json, weights and tokenizer, "
    "or a name that `finetune base list` shows."
)


class Origin(StrEnum):
    """Who gave a value."""

    FILE = "file"
    FLAG = "flag"
    FAMILY = "family"
    DEFAULT = "default"


class ValueOrigin(Section):
    """One dotted key, its value as JSON text, and its origin."""

    key: str
    value: str
    origin: Origin


class ResolvedBase(Section):
    """The base model to load: an absolute folder, its family, and what must stay 16-bit."""

    path: str
    family: str
    model_type: str
    quantization: Quantization
    keep_16bit: tuple[str, ...]
    embedding_on_host: bool = False
    cache: bool = True


class ResolvedLora(Section):
    """The adapter to attach; targets are module suffixes, each of which must match."""

    rank: int = Field(ge=1)
    alpha: float
    dropout: float
    rank_stabilized: bool
    targets: tuple[str, ...]


class ResolvedRecipe(Section):
    """A recipe with no gaps. It is written as recipe.resolved.json into the run folder before anything is loaded."""

    schema_version: Literal[1] = 1
    name: str
    description: str
    base: ResolvedBase
    data: DataSection
    lora: ResolvedLora
    train: TrainSection
    evaluate: EvaluateSection
    track: TrackSection
    egress: EgressMode = "fail"
    origins: tuple[ValueOrigin, ...]

    def digest(self) -> str:
        """SHA-256 over the values, not their origins: two spellings of one recipe are equal.

        What the base is read from changes nothing that is learned, so base.cache is left out; nor does egress.
        """
        document = self.model_dump(mode="json", exclude={"origins": True, "egress": True, "base": {"cache"}})
        return digest_json(document)


def resolve(loaded: LoadedRecipe, *, bases: Path | None = None) -> ResolvedRecipe:
    """Resolve a loaded recipe; bases are those of the home, which base.path may name. None: it is a folder.

    Raises BaseModelError for a missing base, RecipeError for an unknown preset.
    """
    recipe = loaded.recipe
    base_path = base_folder(recipe.base.path, bases=bases)
    model_type = read_model_type(base_path)
    family = family_for(model_type)
    preset = recipe.lora.targets or next(iter(family.targets))
    values = {
        "name": recipe.name,
        "description": recipe.description,
        "base": ResolvedBase(
            path=str(base_path),
            family=family.name,
            model_type=model_type,
            quantization=recipe.base.quantization,
            keep_16bit=family.keep_16bit,
            embedding_on_host=recipe.base.embedding_on_host,
            cache=recipe.base.cache,
        ),
        "data": recipe.data,
        "lora": ResolvedLora(
            rank=recipe.lora.rank,
            alpha=recipe.lora.alpha,
            dropout=recipe.lora.dropout,
            rank_stabilized=recipe.lora.rank_stabilized,
            targets=_targets(family, preset, loaded.path, config=read_text_config(base_path)),
        ),
        "train": recipe.train,
        "evaluate": recipe.evaluate,
        "track": recipe.track.model_copy(update={"adapter_name": recipe.track.adapter_name or recipe.name}),
        "egress": recipe.egress,
    }
    draft = ResolvedRecipe.model_validate({**values, "origins": ()})
    return draft.model_copy(update={"origins": tuple(_origins(draft, loaded))})


def base_folder(path: str, *, bases: Path | None = None) -> Path:
    """The absolute folder of a base model: "embedded" is the one inside this package, then come names of bases.

    Any other path is a folder, or its config.json. Raises BaseModelError for what cannot be a path here.
    """
    if path == EMBEDDED_BASE:
        return Path(__file__).resolve().parent.parent / "embedded" / "base"
    if bases is not None and (named := find_base(bases, path)) is not None:
        return named.resolve()
    try:
        found = Path(path).expanduser().resolve()
        return found.parent if found.name == "config.json" and found.is_file() else found
    except (OSError, RuntimeError) as cause:
        raise BaseModelError(f"base.path: {path!r:.200} cannot be a folder: {cause!s:.200}.", PATH_HINT) from cause


def read_model_type(folder: Path) -> str:
    """model_type of a base folder's config.json. Raises BaseModelError with the path when it is missing or damaged."""
    return str(_read_config(folder)["model_type"])


def read_text_config(folder: Path) -> Mapping[str, object]:
    """What config.json of a base folder says of its text part. Raises BaseModelError as read_model_type does."""
    config = _read_config(folder)
    return dict(config.get("text_config") or config)


def _read_config(folder: Path) -> dict[str, Any]:
    config = folder / "config.json"
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
        model_type = found.get("model_type")
    except FileNotFoundError as cause:
        raise BaseModelError(f"There is no base model in {folder}: config.json is missing.", PATH_HINT) from cause
    except (OSError, ValueError, AttributeError) as cause:
        raise BaseModelError(f"{config} is damaged: {cause}.", PATH_HINT) from cause
    if not isinstance(model_type, str):
        raise BaseModelError(f"{config} names no model_type.", PATH_HINT)
    return dict(found)


def _targets(family: Family, preset: str, path: Path, *, config: Mapping[str, object]) -> tuple[str, ...]:
    if preset in family.targets:
        return family.targets_of(preset, config)
    near = difflib.get_close_matches(preset, family.targets, n=1)
    known = ", ".join(family.targets)
    problem = f"{path}: lora.targets: {preset!r} is no preset of the family {family.name}; it has {known}"
    raise RecipeError(f"{path} has 1 mistake:", HINT, [problem + (f"; did you mean {near[0]}?" if near else "")])


FAMILY_KEYS = frozenset({"base.family", "base.model_type", "base.keep_16bit"})


def _origins(resolved: ResolvedRecipe, loaded: LoadedRecipe) -> list[ValueOrigin]:
    rows = []
    for key, value in _leaves(resolved):
        origin = Origin.DEFAULT
        if key in loaded.flag_keys:
            origin = Origin.FLAG
        elif key in loaded.file_keys:
            origin = Origin.FILE
        elif key in FAMILY_KEYS or key == "lora.targets":
            origin = Origin.FAMILY
        rows.append(ValueOrigin(key=key, value=json.dumps(value, ensure_ascii=False), origin=origin))
    return rows


def _leaves(model: BaseModel, prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name in type(model).model_fields:
        if name in ("origins", "schema_version"):
            continue
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            rows += _leaves(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, model.model_dump(mode="json", include={name})[name]))
    return rows
