"""How much of a gap the context of repo_infill rows gives, beside random files of the same repository and size.

python bench/context_ranking.py ../requests ../redux.git ../gson.git [--json]

Shares are in percent. defined: of the identifiers in gaps that other files of the repository define as functions or
types, those whose definition the context shows. held: of all identifiers in gaps, those that the context holds at all.
new held: the same of those that the text around the gap does not show: a model has nothing but the context for them.
Both contexts leave out the file, its twins of equal text and what gives the gap away, and are cut to the same bytes.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.document import Origin
from data_pipelines.draw import Draw
from data_pipelines.extract.registry import LANGUAGES, extractor_for
from data_pipelines.filters.encoding import decode
from data_pipelines.filters.generated import generated_name_reason
from data_pipelines.filters.language import language_of
from data_pipelines.filters.vendored import vendored_reason
from data_pipelines.mine.card import FileCard, LoadedFile, card_of
from data_pipelines.mine.context import ContextFile
from data_pipelines.mine.excerpt import Leak, excerpt
from data_pipelines.mine.pick import pick
from data_pipelines.mine.picks import Gap
from data_pipelines.mine.ranking import ContextIndex, co_changes, words_near
from data_pipelines.mine.repo_infill import context_of
from data_pipelines.mine.words import identifiers, word_hash
from data_pipelines.sources.git import Repository, open_repository
from data_pipelines.task_config import TasksSection

MAX_BYTES = 200_000
HEADER = (
    "repository",
    "files",
    "gaps",
    *(f"{name}{other}" for name in ("defined", "held", "new held", "bytes") for other in ("", ", random")),
)


@dataclass(frozen=True, slots=True)
class File:
    """A file as a row sees it."""

    path: str
    blob: str
    language: str
    repo: str = ""
    visibility: str = ""
    origin: Origin = Origin("", 0, "")  # noqa: RUF009
    license: str | None = None


def main() -> int:
    arguments = parser().parse_args()
    rows = []
    for path in arguments.repositories:
        with open_repository(path, name="/".join(path.resolve().parts[-2:]), ref="HEAD") as repository:
            rows.append(measure(repository))
        sys.stderr.write(f"{path}: done\n")
    print(json.dumps(rows, indent=2) if arguments.json else table(rows))
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("repositories", nargs="+", type=Path, help="clones or bare repositories")
    made.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return made


def measure(repository: Repository) -> dict[str, object]:
    """The row of one repository; shares are in percent of the identifiers in its gaps."""
    tasks = TasksSection()
    section = tasks.repo_infill
    files = {loaded.file.path: loaded for loaded in load_files(repository, tasks)}
    cards = cards_of(files)
    definers = definers_of(cards)
    commits = ([change.path.decode("utf-8", "replace") for change in commit.changes] for commit in repository.commits())
    index = ContextIndex(cards.values(), co_changes=co_changes(commits))
    counts: Counter[str] = Counter()
    for path, loaded in files.items():
        for gap in loaded.picks.repo_infill:
            ranked = context_of(loaded, cards[path], gap=gap, index=index, load=files.__getitem__, section=section)
            if ranked:
                drawn = random_context(loaded, gap, files=files, like=ranked)
                counts.update(gains(loaded, gap, ranked=ranked, drawn=drawn, files=files, definers=definers))
    shares = {
        name + suffix: round(100 * counts[name + suffix] / max(1, counts[whole]), 1)
        for name, whole in (("defined", "definable"), ("held", "identifiers"), ("new held", "new"))
        for suffix in ("", " random")
    }
    sizes = {f"bytes{suffix}": counts[f"bytes{suffix}"] // max(1, counts["gaps"]) for suffix in ("", " random")}
    return {"repository": repository.name, "files": len(files), "gaps": counts["gaps"], **shares, **sizes}


def load_files(repository: Repository, tasks: TasksSection) -> Iterator[LoadedFile]:
    for entry in repository.entries():
        path = entry.path.decode("utf-8", "replace")
        if not entry.mode.startswith("100") or vendored_reason(path) or generated_name_reason(path):
            continue
        content = repository.content(entry.blob, max_bytes=MAX_BYTES)
        text, reason = decode(content or b"")
        language = language_of(path, text)
        if reason or not content or language not in LANGUAGES:
            continue
        extractor = extractor_for(language)
        units = extractor.units(content)
        if units.parses:
            picks = pick(content, path=path, blob=entry.blob, units=units, extractor=extractor, tasks=tasks, seed=0)
            yield LoadedFile(File(path, entry.blob, language), content, picks)


def cards_of(files: dict[str, LoadedFile]) -> dict[str, FileCard]:
    return {
        path: card_of(
            loaded.picks,
            path=path,
            language=loaded.file.language,
            cluster=loaded.file.blob,
            extractor=extractor_for(loaded.file.language),
            paths=files,
        )
        for path, loaded in files.items()
    }


def definers_of(cards: dict[str, FileCard]) -> dict[int, set[str]]:
    """For the hash of a name, the paths of the files that define it."""
    found: dict[int, set[str]] = defaultdict(set)
    for path, card in cards.items():
        for name in card.defines:
            found[word_hash(name.encode("utf-8"))].add(path)
    return found


def random_context(
    loaded: LoadedFile, gap: Gap, *, files: dict[str, LoadedFile], like: list[ContextFile]
) -> list[ContextFile]:
    """Heads of random files of the same language, as many and as large as those in like."""
    draw = Draw("random context", loaded.file.path, gap.span.start)
    leak = Leak(loaded.text[gap.span.start : gap.span.end])
    others = [
        other
        for path, other in files.items()
        if path != loaded.file.path
        and other.file.blob != loaded.file.blob
        and other.file.language == loaded.file.language
    ]
    found: list[ContextFile] = []
    left = sum(len(part.text) for part in like)
    while others and left > 100:
        other = others.pop(draw.below(len(others)))
        part = excerpt(other, words=(), leak=leak, max_bytes=min(left, max(len(part.text) for part in like)))
        if part is not None:
            found.append(part)
            left -= len(part.text)
    return found


def gains(
    loaded: LoadedFile,
    gap: Gap,
    *,
    ranked: list[ContextFile],
    drawn: list[ContextFile],
    files: dict[str, LoadedFile],
    definers: dict[int, set[str]],
) -> Counter[str]:
    """Counts of the gap's identifiers by what the two contexts do for them."""
    wanted = {word_hash(name) for name in identifiers(loaded.text[gap.span.start : gap.span.end])}
    new = wanted - words_near(loaded.text, gap.span.start, gap.span.end)
    definable = {name for name in wanted if definers.get(name, set()) - {loaded.file.path}}
    counts = Counter({"gaps": 1, "identifiers": len(wanted), "new": len(new), "definable": len(definable)})
    for context, suffix in ((ranked, ""), (drawn, " random")):
        held = {word_hash(name) for part in context for name in identifiers(part.text)}
        defined = {name for part in context for name in defined_in(part, files[part.document.path])}
        counts[f"defined{suffix}"] += len(definable & defined)
        counts[f"bytes{suffix}"] += sum(len(part.text) for part in context)
        counts[f"held{suffix}"] += len(wanted & held)
        counts[f"new held{suffix}"] += len(new & held)
    return counts


def defined_in(part: ContextFile, loaded: LoadedFile) -> Iterator[int]:
    """Hashes of the functions and types whose first line is among the lines that are shown."""
    for item in (*loaded.picks.named, *loaded.picks.types):
        line = loaded.text.count(b"\n", 0, item.whole.start) + 1
        if any(first <= line <= last for first, last in part.lines):
            yield word_hash(item.name.encode("utf-8"))


def table(rows: list[dict[str, object]]) -> str:
    lines = ["| " + " | ".join(HEADER) + " |", "|---" + "|--:" * (len(HEADER) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row.values())) + " |" for row in rows)])


if __name__ == "__main__":
    raise SystemExit(main())
