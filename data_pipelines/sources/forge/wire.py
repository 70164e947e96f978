"""What both forges' records share on the wire: frozen models that pass over what they do not know, and times."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from data_pipelines.mine.message import BOT
from data_pipelines.sources.forge.records import Item, Problem

MAX_LINE = 10_000_000
# "project_42_bot_9f", "ci bot", and services that review under a name of their own
ROBOT = re.compile(
    r"(?i)(?:^|[\W_])bots?(?:$|[\W_])|^(?:codecov|sonar(?:cloud|qube)|coderabbit|copilot|codacy|snyk|greptile|deepsource)"
)


class Wire(BaseModel):
    """Base of every record of an export: of its many fields only those that are named are read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _texts_can_be_written(cls, value: object) -> object:
        # JSON may spell half of a character, "\\ud800", which no UTF-8 file can hold
        if not isinstance(value, dict):
            return value
        return {key: _whole(item) if isinstance(item, str) else item for key, item in value.items()}


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    # "2016-06-14T15:02:36.568Z", "... +0200", and "2020-03-28 12:47:33 UTC" of older GitLab exports
    when = datetime.fromisoformat(value.strip().replace(" UTC", "Z"))
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


# what SQLite can hold
Number = Annotated[int, Field(ge=0, lt=1 << 63)]
Seconds = Annotated[int, BeforeValidator(_seconds), Field(ge=0, lt=1 << 40)]
Line = Annotated[int, Field(ge=1, le=MAX_LINE)]


class Unusable(ValueError):
    """A record that is as documented and of no use here; the text is the reason to note."""


def is_bot(name: str) -> bool:
    """Whether a login or a name is that of a machine."""
    return bool(BOT.search(name) or ROBOT.search(name))


def guarded(kind: str, make: Callable[[], Item | None]) -> Iterator[Item]:
    """What make gives, if anything; a Problem that names the kind when the record is not as documented, or Unusable."""
    try:
        item = make()
    except ValidationError as error:
        yield Problem(f"{kind}: {_first_problem(error)}")
    except Unusable as unusable:
        yield Problem(f"{kind}: {unusable}")
    else:
        if item is not None:
            yield item


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in problem["loc"] if not isinstance(part, int))
    missing = problem["type"] == "missing" or problem["type"].endswith("_type")
    return f"{field or 'the record'} {'is missing or of another type' if missing else 'cannot be read'}"
