"""YAML into a typed object: every mistake at once, each with file, line and the nearest valid key."""

import difflib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from finetune.contracts.errors import RecipeError

if TYPE_CHECKING:
    import yaml

ModelT = TypeVar("ModelT", bound=BaseModel)
Location = tuple[str | int, ...]
# the largest takes a second or two to read; two thousand sources fit
MAX_FILE_BYTES = 256 << 10
MAX_DEPTH = 32
UNSOUND = "NUL and halves of surrogate pairs are not allowed: no text or path has them"
# of a file that is wrong all through
MAX_PROBLEMS = 100
# letters of a value or a key that is shown, and of what is said of it, which may hold it again
MAX_SHOWN = 120
MAX_SAID = 1000


@dataclass(frozen=True)
class YamlDocument:
    """Plain values of a YAML mapping, and the 1-based line on which each key stands."""

    values: dict[str, Any]
    lines: Mapping[Location, int]
    duplicates: tuple[Location, ...]


def load_yaml_model(
    path: Path,
    kind: type[ModelT],
    *,
    error: type[RecipeError] = RecipeError,
    hint: str,
    overrides: Mapping[str, Any] | None = None,
) -> ModelT:
    """Read path as kind. overrides maps dotted keys to values that win over the file's, as given by --set.

    Raises error with one problem line per mistake: "recipe.yaml:7: lora.rnak: unknown key; did you mean lora.rank?".
    """
    return model_from(read_yaml(path, error=error, hint=hint), path, kind, error=error, hint=hint, overrides=overrides)


def model_from(
    document: YamlDocument,
    path: Path,
    kind: type[ModelT],
    *,
    error: type[RecipeError] = RecipeError,
    hint: str,
    overrides: Mapping[str, Any] | None = None,
) -> ModelT:
    """load_yaml_model of a file that was read already; overrides are set in the values of document."""
    values = document.values
    for key, value in (overrides or {}).items():
        set_dotted(values, key.split("."), value)
    problems = [
        f"{_place(path, document, location, overrides)}: {_short(dotted(location))}: given twice"
        for location in document.duplicates
    ]
    try:
        model = kind.model_validate(values)
    except ValidationError as cause:
        mistakes = cause.errors(include_url=False)
        num_problems = len(problems) + len(mistakes)
        problems += [_problem(path, document, item, kind, overrides) for item in mistakes[:MAX_PROBLEMS]]
        raise error(_summary(path, num_problems), hint, _first(problems, num_problems)) from cause
    if problems:
        raise error(_summary(path, len(problems)), hint, _first(problems, len(problems)))
    return model


def read_yaml(path: Path, *, error: type[RecipeError], hint: str) -> YamlDocument:
    """Parse a file whose top is a mapping, with safe types only and without aliases that expand."""
    import yaml

    try:
        root = _compose(_text(path, error=error, hint=hint))
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise error(f"{where}: not valid YAML: {getattr(cause, 'problem', None) or cause}.", hint) from cause
    if root is None:
        return YamlDocument({}, {}, ())
    if not isinstance(root, yaml.MappingNode):
        raise error(f"{path}:1: the file must be a mapping of sections, such as 'lora:'.", hint)
    builder = _Builder()
    values = builder.mapping(root, ())
    if builder.refused:
        problems = [f"{path}:{problem}" for problem in builder.refused]
        raise error(_summary(path, len(problems)), hint, _first(problems, len(problems)))
    return YamlDocument(values, builder.lines, tuple(builder.duplicates))


def _text(path: Path, *, error: type[RecipeError], hint: str) -> str:
    """The text of a file that is one: a device or a pipe would be read without end, or wait for ever."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise error(f"{path} cannot be read: it is no file.", hint)
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise error(f"{path} is larger than {MAX_FILE_BYTES} bytes; a recipe or pipeline file is small.", hint)
        return content.decode("utf-8")
    except FileNotFoundError as cause:
        raise error(f"{path} does not exist.", hint) from cause
    except OSError as cause:
        raise error(f"{path} cannot be read: {cause.strerror}.", hint) from cause
    except UnicodeDecodeError as cause:
        raise error(f"{path} is not UTF-8 text.", hint) from cause


def _compose(text: str) -> "yaml.Node | None":
    """The nodes of a document. Raises YAMLError, also where it is nested so deeply that reading it would never end."""
    import yaml

    class Loader(yaml.SafeLoader):
        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                what = f"nested deeper than {MAX_DEPTH} levels"
                raise yaml.composer.ComposerError(None, None, what, self.peek_event().start_mark)  # type: ignore[no-untyped-call]
            node: yaml.Node | None = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return yaml.compose(text, Loader=Loader)


class _Builder:
    """Nodes into plain values, keeping lines, keys given twice, and what this project refuses of YAML."""

    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self.duplicates: list[Location] = []
        self.refused: list[str] = []
        self._seen: set[int] = set()

    def value(self, node: "yaml.Node", location: Location) -> Any:
        import yaml

        line = node.start_mark.line + 1
        if id(node) in self._seen:
            self.refused.append(f"{line}: an alias (*name) is not allowed: write the value out")
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            return self.sequence(node, location)
        assert isinstance(node, yaml.ScalarNode)
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            self.refused.append(f"{line}: the tag {node.tag} is not allowed")
        if not is_sound(node.value):
            self.refused.append(f"{line}: {UNSOUND}")
        return parse_scalar(node.value) if node.style is None else node.value

    def mapping(self, node: "yaml.MappingNode", location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*location, key)
            if key in values:
                self.duplicates.append(here)
            self.lines[here] = key_node.start_mark.line + 1
            values[key] = self.value(value_node, here)
        return values

    def sequence(self, node: "yaml.SequenceNode", location: Location) -> list[Any]:
        for index, item in enumerate(node.value):
            self.lines[(*location, index)] = item.start_mark.line + 1
        return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]


def is_sound(value: Any) -> bool:
    """Whether all texts in a value can be written down, and name a file."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)
    if isinstance(value, dict):
        return all(is_sound(part) for item in value.items() for part in item)
    return not isinstance(value, list | tuple | set) or all(is_sound(part) for part in value)


def parse_scalar(text: str) -> Any:
    """A scalar as YAML 1.1 safe types, but 1e-4 is a number (YAML 1.1 alone would call it text)."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        # what looks like a date that does not exist, or a number of thousands of digits, is text too
        return text
    if isinstance(value, str):
        try:
            return float(value) if any(digit.isdigit() for digit in value) else value
        except ValueError:
            return value
    return value


def set_dotted(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set values[a][b][c] for keys (a, b, c); what stands in the way and is no mapping is replaced."""
    for key in keys[:-1]:
        inner = values.get(key)
        if not isinstance(inner, dict):
            inner = {}
            values[key] = inner
        values = inner
    values[keys[-1]] = value


def dotted(location: Sequence[str | int]) -> str:
    """("lora", "targets", 0) as lora.targets[0]."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


def known_keys(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that a model accepts, sections included."""
    for name, field in kind.model_fields.items():
        yield prefix + name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from known_keys(inner, f"{prefix}{name}.")


def nearest_key(key: str, kind: type[BaseModel]) -> str | None:
    """The accepted key that looks most like key, None when none is close."""
    keys = list(known_keys(kind))
    close = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    if not close:
        last = key.rsplit(".", 1)[-1]
        by_last = {name.rsplit(".", 1)[-1]: name for name in keys}
        close = [by_last[name] for name in difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)]
    return close[0] if close else None


def _problem(
    path: Path, document: YamlDocument, item: Any, kind: type[BaseModel], overrides: Mapping[str, Any] | None
) -> str:
    location: Location = tuple(item["loc"])
    key = _short(dotted(location))
    place = _place(path, document, location, overrides)
    if item["type"] == "extra_forbidden":
        near = nearest_key(key, kind)
        return f"{place}: {key}: unknown key" + (f"; did you mean {near}?" if near else "")
    if item["type"] == "missing":
        return f"{place}: {key}: missing; it must be given"
    said = _short(item["msg"].removeprefix("Value error, "), MAX_SAID)
    return f"{place}: {key}: {said} (given: {_short(repr(item['input']))})"


def _short(text: str, limit: int = MAX_SHOWN) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ..."


def _first(problems: Sequence[str], num_problems: int) -> list[str]:
    """The first of them, and how many more there are."""
    more = num_problems - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], f"and {more:,} more"] if more > 0 else list(problems)


def _place(path: Path, document: YamlDocument, location: Location, overrides: Mapping[str, Any] | None) -> str:
    key = dotted(location)
    if any(key == name or key.startswith(name + ".") for name in overrides or {}):
        return "--set"
    while location:
        if location in document.lines:
            return f"{path}:{document.lines[location]}"
        location = location[:-1]
    return f"{path}:1"


def _summary(path: Path, num_problems: int) -> str:
    return f"{path} has {num_problems} mistake{'s' if num_problems > 1 else ''}:"
