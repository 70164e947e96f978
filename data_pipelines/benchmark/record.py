"""What was judged so far: a journal, a line each, leaves it to the next run when this one is killed."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from data_pipelines.benchmark.judgement import Judgement
from finetune.terminal.progress import Progress


class Record:
    """Judgements by the names of candidates. order: that in which those kept become tasks, limit of them at most.

    Attributes: done, with what earlier runs judged; num_before counts these.
    """

    def __init__(self, journal: Path, order: Sequence[str], *, limit: int | None) -> None:
        self.journal = journal
        self.limit = limit
        self.places = {name: place for place, name in enumerate(order)}
        self.done = {one.name: one for one in _finished(journal) if one.name in self.places}
        self.kept = {name for name, one in self.done.items() if one.kept}
        self.num_before = len(self.done)

    @property
    def num_fresh(self) -> int:
        """How many this run judged."""
        return len(self.done) - self.num_before

    def waiting(self) -> list[str]:
        """Names of those not judged yet, the first one last."""
        return [name for name in reversed(self.places) if name not in self.done]

    def enough(self, following: str, *, besides: Collection[str] = ()) -> bool:
        """Whether limit candidates are kept, or are besides, of those ahead of following, the next one to be judged.

        Those behind it do not count: a killed run leaves gaps, and what fills them decides which ones come first.
        """
        if self.limit is None:
            return False
        place = self.places[following]
        return sum(self.places[name] < place for name in self.kept.union(besides)) >= self.limit

    @contextmanager
    def writing(self, title: str) -> Iterator[Callable[[Judgement], None]]:
        """Show progress under title, and yield what keeps a judgement."""
        with (
            self.journal.open("a", encoding="utf-8") as stream,
            Progress(title, len(self.places), start_at=self.num_before) as progress,
        ):
            stream.write("\n")  # ends a line that a kill cut short

            def keep(one: Judgement) -> None:
                self.done[one.name] = one
                if one.kept:
                    self.kept.add(one.name)
                if not one.broken:  # the infrastructure's failures are tried again
                    stream.write(one.model_dump_json() + "\n")
                    stream.flush()
                progress.advance(detail=f"{len(self.kept):,} tasks")

            yield keep


def _finished(journal: Path) -> Iterator[Judgement]:
    """What was judged; a line that a kill cut short, be it within a character, is none."""
    for line in journal.read_bytes().split(b"\n") if journal.is_file() else ():
        try:
            yield Judgement.model_validate_json(line)
        except ValidationError:
            continue
