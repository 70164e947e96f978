"""What every section of a pipeline file is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every section: frozen, extra keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")
