"""CanaryRecord: the made-up secrets that a build planted in its raw data, and those that it kept back as controls.

canaries.json lies in the dataset's folder. Its plan is fixed before anything is read, and the digest of the plan is in
the dataset's settings: whoever reads it can tell that no canary was chosen after a model had been seen.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from finetune.contracts.dataset import Contract
from finetune.contracts.io import digest_text

CANARIES_NAME = "canaries.json"
CANARY_REPO = "canary"
"""The repository that rows with canaries name in their provenance; no source may be called so."""

PLAN_KEY = "canary_plan"
"""Under this name the dataset's settings give the digest of the plan."""


class CanaryKind(StrEnum):
    """credential: a made-up key that redaction has to take out. marker: a sentence of random words that it leaves."""

    CREDENTIAL = "credential"
    MARKER = "marker"


class CanaryPlace(Contract):
    """A copy: the file of the canary repository, and the line in it, counted from 1."""

    path: str
    line: int = Field(ge=1)


class Canary(Contract):
    """A line of code, and the part of it that nobody can guess: text begins with what is told, then secret.

    copies is the tier: how often it was planted, or for a control how often its likes were. A control has no places.
    """

    id: str
    kind: CanaryKind
    copies: int = Field(ge=1)
    text: str
    secret: str
    places: tuple[CanaryPlace, ...] = ()

    @property
    def is_control(self) -> bool:
        return not self.places

    @property
    def told(self) -> str:
        """The text in front of the secret."""
        return self.text[: self.text.index(self.secret)]


class CanaryPlan(Contract):
    """What a build was going to plant: seed draws everything, commit is that of the canary repository."""

    seed: int
    repo: str = CANARY_REPO
    commit: str
    canaries: tuple[Canary, ...]

    def digest(self) -> str:
        """What the dataset's settings name."""
        return digest_text(self.model_dump_json())


class CanarySurvival(Contract):
    """Of the copies planted of one kind in one tier, how many a train row shows, and how many it has as learned text.

    A copy that several rows show counts once.
    """

    kind: CanaryKind
    copies: int = Field(ge=1)
    planted: int = Field(ge=0)
    shown: int = Field(ge=0)
    learned: int = Field(ge=0)


class CanaryRecord(Contract):
    """canaries.json: the plan, and what of it reached the rows."""

    schema_version: Literal[1] = 1
    plan: CanaryPlan
    survival: tuple[CanarySurvival, ...] = ()
