"""Places in a repository that a teacher is asked about: documented functions, documents, commits, fragments."""

import heapq
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from data_pipelines.document import Units
from data_pipelines.draw import Draw
from data_pipelines.mine.row import Source, line_range
from finetune.contracts.io import digest_text

# OSS-Instruct takes 1 to 15 lines that are not blank (Magicoder, arXiv 2312.02120)
MAX_FRAGMENT_LINES = 15
LINES_PER_FRAGMENT = 150
MIN_SECTION_CHARS, MIN_BODY_CHARS = 200, 80
HEADING = re.compile(r"^#{1,6} |^(?:=+|-+)$")
WORD = re.compile(r"[A-Za-z]{3,}")
MIN_FRAGMENT_WORDS = 3


class SeedKind(StrEnum):
    """What a question is made from; the stratum of its row."""

    SYMBOL = "symbol"
    DOCUMENT = "document"
    COMMIT = "commit"
    FRAGMENT = "fragment"


@dataclass(frozen=True, slots=True)
class Shown:
    """Lines of a file as the teacher sees them: redacted, without their ends; first_line is the number of the first."""

    document: Source
    lines: tuple[str, ...]
    first_line: int

    @property
    def last_line(self) -> int:
        return self.first_line + len(self.lines) - 1

    def numbered(self, first: int, last: int) -> str:
        """Lines first to last with their numbers in front, as in "12| return total"."""
        part = self.lines[first - self.first_line : last - self.first_line + 1]
        return "".join(f"{first + place}| {line}\n" for place, line in enumerate(part))


@dataclass(frozen=True, slots=True)
class Seed:
    """A place to ask about: focus is what the question starts from, shown is all that an answer may cite."""

    kind: SeedKind
    focus: str
    shown: tuple[Shown, ...]

    def key(self) -> str:
        """What tells it from every other seed."""
        places = [f"{one.document.repo}:{one.document.path}:{one.first_line}-{one.last_line}" for one in self.shown]
        return "\0".join([self.kind, *places, self.focus])


def symbol_seeds(document: Source, text: bytes, *, units: Units, max_lines: int) -> Iterator[Seed]:
    """One seed per documented function, with what stands around it. text is the redacted file."""
    lines = lines_of(text)
    for function in units.functions:
        if not function.is_stub:
            first, last = line_range(text, function.whole.start, function.whole.end)
            yield _seed(SeedKind.SYMBOL, document, lines, place=(first, last), max_lines=max_lines)


def document_seeds(document: Source, text: bytes, *, max_lines: int) -> Iterator[Seed]:
    """One seed per section of a Markdown or reStructuredText document that says something."""
    lines = lines_of(text)
    starts = [place for place, line in enumerate(lines) if HEADING.match(line)]
    for start, end in zip([0, *starts], [*starts, len(lines)], strict=True):
        if len("\n".join(lines[start:end]).strip()) >= MIN_SECTION_CHARS:
            yield _seed(SeedKind.DOCUMENT, document, lines, place=(start + 1, end), max_lines=max_lines)


def fragment_seeds(document: Source, text: bytes, *, max_lines: int, seed: int) -> Iterator[Seed]:
    """One draw of 1 to 15 lines per 150 lines of a file; those of signs alone are left out."""
    lines = lines_of(text)
    draw = Draw("qa fragment", seed, document.repo, document.path, document.blob)
    for number in range(-(-len(lines) // LINES_PER_FRAGMENT)):
        start = number * LINES_PER_FRAGMENT
        first = start + draw.below(min(LINES_PER_FRAGMENT, len(lines) - start)) + 1
        last = min(len(lines), first + draw.below(MAX_FRAGMENT_LINES))
        if len(WORD.findall("\n".join(lines[first - 1 : last]))) >= MIN_FRAGMENT_WORDS:
            yield _seed(SeedKind.FRAGMENT, document, lines, place=(first, last), max_lines=max_lines)


def commit_seed(message: str, files: Sequence[tuple[Source, bytes, tuple[int, int]]], *, max_lines: int) -> Seed | None:
    """A seed from a commit whose body says why; None when it says too little, or no file of it is left.

    message is redacted; files are those that it changed, as they are now (redacted), with the changed lines from 1.
    """
    body = message.partition("\n")[2].strip()
    if len(body) < MIN_BODY_CHARS or not files:
        return None
    share = max(1, max_lines // len(files))
    shown = tuple(_shown(document, lines_of(text), place=place, max_lines=share) for document, text, place in files)
    return Seed(SeedKind.COMMIT, message.strip(), shown)


def lines_of(text: bytes) -> list[str]:
    """The lines of a text as git and editors count them: a form feed or the like ends none."""
    lines = text.decode("utf-8").replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def choose(seeds: Iterable[Seed], limit: int, *, seed: int) -> list[Seed]:
    """limit seeds of one source, drawn evenly and the same each time; no more than these are held in memory."""
    keyed = ((digest_text(f"{seed}\0{one.key()}"), place, one) for place, one in enumerate(seeds))
    return [one for _, _, one in heapq.nsmallest(limit, keyed)]


def _seed(kind: SeedKind, document: Source, lines: Sequence[str], *, place: tuple[int, int], max_lines: int) -> Seed:
    focus = "\n".join(lines[place[0] - 1 : min(place[1], place[0] - 1 + max_lines)])
    return Seed(kind, focus, (_shown(document, lines, place=place, max_lines=max_lines),))


def _shown(document: Source, lines: Sequence[str], *, place: tuple[int, int], max_lines: int) -> Shown:
    """The lines of a place with as many around it as max_lines allow, half of them above."""
    first, last = place[0], min(place[1], place[0] + max_lines - 1)
    above = (max_lines - (last - first + 1)) // 2
    start = max(1, first - above)
    return Shown(document, tuple(lines[start - 1 : min(len(lines), start + max_lines - 1)]), start)
