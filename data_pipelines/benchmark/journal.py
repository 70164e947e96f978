"""What was judged so far, a line each, so that a killed run leaves its work to the next one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TextIO, TypeVar

from pydantic import ValidationError

from finetune.contracts.dataset import Contract

Judged = TypeVar("Judged", bound=Contract)


@dataclass(frozen=True, slots=True)
class Journal(Generic[Judged]):
    """A file of what was judged."""

    path: Path
    kind: type[Judged]

    def finished(self) -> list[Judged]:
        """What was judged; a line that a kill cut short is none."""
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            try:
                found.append(self.kind.model_validate_json(line))
            except ValidationError:
                continue
        return found

    @contextmanager
    def writing(self) -> Iterator[TextIO]:
        """Append; the first line break ends a line that a kill cut short."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("\n")
            yield stream
