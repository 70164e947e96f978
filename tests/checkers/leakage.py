"""Is the novel slice of a dataset really novel? A checker that shares no code with what built the dataset.

    python -m tests.checkers.leakage DATASET_DIR

It reads the Parquet shards and compares every held-out row whose slice is "novel" with all train rows:

run       a run of ten tokens inside the target (for a target of fewer tokens: the runs of ten that hold all of it,
          together with the text before and after) occurs in a text of a train row, learned or shown
function  a Python function that the target lies in or holds, or an answer holds, has the syntax tree of a function in
          a train row, but for names of functions, docstrings and decorators
commit    an edit is of a commit that gave a train edit
request   an edit's message names a request or issue that the message of a train edit of that repository names
change    an edit changes the same lines to the same lines in a file of the same name as a train edit
blob      the file has the content of a file in train
file      the file, at that content, is itself in train

A token is a run of letters, digits, "_" and characters outside ASCII, or one other character that is no white space.
The lines that frame search/replace blocks, and the paths above them, are no text. Exit status 0: no leak; 1: leaks;
2: there is nothing to check.
"""

import ast
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import pyarrow.parquet as pq

RUN = 10
ROWS_PER_BATCH = 256
# runs that are sought in one reading of train; their texts take some 200 bytes each
RUNS_PER_PASS = 2_000_000
EXAMPLES_SHOWN = 5
KINDS = ("run", "function", "commit", "request", "change", "blob", "file")
EDIT_TASKS = ("commit_edit", "review_fix")
COLUMNS = ["id", "task", "language", "segments", "provenance", "split", "slice"]
TOKEN = re.compile(r"[A-Za-z0-9_\u0080-\U0010ffff]+|[^\sA-Za-z0-9_\u0080-\U0010ffff]", re.ASCII)
DEF = re.compile(r"^([ \t]*)(?:async[ \t]+)?def[ \t]", re.MULTILINE)
BLOCK = re.compile(
    r"(?:^(?P<path>[^\n]*)\n)?^<<<<<<< SEARCH\n(?P<search>.*?)^=======\n(?P<replace>.*?)^>>>>>>> REPLACE\n?",
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"(?:#|!|\bGH-)(\d+)\b", re.IGNORECASE)


@dataclass
class Row:
    """One row, as far as it is compared."""

    id: str
    task: str
    language: str
    segments: list[dict]
    provenance: list[dict]
    novel: bool
    train: bool

    def text(self, role: str) -> str:
        return "".join(segment["text"] for segment in self.segments if segment["role"] == role)

    @property
    def is_gap(self) -> bool:
        return any(segment["role"] in ("prefix", "suffix") for segment in self.segments)


@dataclass
class Sought:
    """What of the novel rows must not be in train: each thing with the rows that it belongs to."""

    functions: dict[bytes, list[str]] = field(default_factory=dict)
    edits: dict[tuple, list[str]] = field(default_factory=dict)
    blobs: dict[tuple, list[str]] = field(default_factory=dict)
    num_rows: int = 0
    num_functions: int = 0
    num_runs: int = 0


@dataclass
class Leaks:
    """Rows that leak, by kind, with the train row that tells."""

    pairs: dict[str, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def add(self, kind: str, novel: str, train: str) -> None:
        self.pairs[kind].setdefault(novel, train)

    def __bool__(self) -> bool:
        return any(self.pairs.values())


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all shards that hold examples."""
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            if not set(COLUMNS) <= set(file.schema_arrow.names):
                continue
            for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=COLUMNS):
                for row in batch.to_pylist():
                    novel = row["split"] == "heldout" and row["slice"] == "novel"
                    train = row["split"] == "train"
                    parts = row["segments"], row["provenance"]
                    yield Row(row["id"], row["task"], row["language"], *parts, novel, train)


def check(folder: Path, *, runs_per_pass: int = RUNS_PER_PASS) -> tuple[Sought, Leaks]:
    """Everything that is looked for, and what was found. Train is read once per runs_per_pass runs of novel rows."""
    sought, leaks = Sought(), Leaks()
    runs: set[str] = set()
    leaked: dict[str, str] = {}
    for row in rows(folder):
        if not row.novel:
            continue
        note(row, sought)
        runs |= asked_runs(row)
        if len(runs) >= runs_per_pass:
            sought.num_runs += len(runs)
            leaked |= seek_runs(folder, runs)
            runs = set()
    if runs:
        sought.num_runs += len(runs)
        leaked |= seek_runs(folder, runs)
    for row in rows(folder) if leaked else ():
        for run in asked_runs(row) if row.novel else ():
            if run in leaked:
                leaks.add("run", row.id, leaked[run])
    if sought.num_rows:
        seek_others(folder, sought, leaks)
    return sought, leaks


def note(row: Row, sought: Sought) -> None:
    """Take in what a novel row must not share with train, but for its runs."""
    sought.num_rows += 1
    for function in asked_functions(row):
        sought.num_functions += 1
        sought.functions.setdefault(function, []).append(row.id)
    for thing in edit_things(row):
        sought.edits.setdefault(thing, []).append(row.id)
    for thing in blob_things(own_origins(row)):
        sought.blobs.setdefault(thing, []).append(row.id)


def seek_others(folder: Path, sought: Sought, leaks: Leaks) -> None:
    """Compare all train rows with what the novel rows hold besides runs of tokens."""
    seen: set[bytes] = set()
    for row in rows(folder):
        if not row.train:
            continue
        for function in shown_functions(row, seen) if sought.functions else ():
            for novel in sought.functions.get(function, ()):
                leaks.add("function", novel, row.id)
        for thing in edit_things(row):
            for novel in sought.edits.get(thing, ()):
                leaks.add(thing[0], novel, row.id)
        for thing in blob_things(row.provenance):
            for novel in sought.blobs.get(thing, ()):
                leaks.add(thing[0], novel, row.id)


# runs of tokens


def seek_runs(folder: Path, runs: set[str]) -> dict[str, str]:
    """Those of runs that a text of a train row holds, each with the first such row."""
    found: dict[str, str] = {}
    for row in rows(folder):
        for text in shown_texts(row) if row.train else ():
            tokens = TOKEN.findall(text)
            for run in runs.intersection(each_run(tokens)):
                found.setdefault(run, row.id)
    return found


def shown_texts(row: Row) -> list[str]:
    """Every text of a row; text before a gap, gap and text after it are one."""
    if row.is_gap:
        whole = row.text("prefix") + row.text("target") + row.text("suffix")
        return [whole, *(segment["text"] for segment in row.segments if segment["role"] == "context")]
    return [piece for segment in row.segments for piece in pieces(segment["text"])]


def pieces(text: str) -> list[str]:
    """A text without the frames of search/replace blocks: what lies between, before and after them."""
    if "<<<<<<< SEARCH" not in text:
        return [text]
    found, place = [], 0
    for match in BLOCK.finditer(text):
        found += [text[place : match.start()], match["search"], match["replace"]]
        place = match.end()
    return [piece for piece in [*found, text[place:]] if piece.strip()]


def asked_runs(row: Row) -> set[str]:
    """Runs that the target is made of, or for a short one that it is part of."""
    found: set[str] = set()
    if not row.is_gap:
        for segment in row.segments:
            if segment["loss"]:
                for piece in pieces(segment["text"]):
                    found.update(each_run(TOKEN.findall(piece)))
        return found
    prefix, target = row.text("prefix"), row.text("target")
    spans = [match.span() for match in TOKEN.finditer(prefix + target + row.text("suffix"))]
    whole = prefix + target + row.text("suffix")
    start, end = len(prefix), len(prefix) + len(target)
    inside = [place for place, span in enumerate(spans) if span[0] < end and span[1] > start]
    if not inside:
        return set()
    more = max(0, RUN - len(inside))
    window = spans[max(0, inside[0] - more) : inside[-1] + more + 1]
    return set(each_run([whole[first:last] for first, last in window]))


def each_run(tokens: list[str]) -> Iterable[str]:
    """Each ten tokens in a row, parted by blanks; a shorter list is one run, an empty one has none."""
    if len(tokens) < RUN:
        return [" ".join(tokens)] if tokens else []
    return map(" ".join, zip(*(tokens[place:] for place in range(RUN)), strict=False))


# Python functions


def asked_functions(row: Row) -> set[bytes]:
    """Functions that the target lies in or holds; of an edit those that it makes."""
    if row.language != "python":
        return set()
    if row.is_gap:
        prefix, target = row.text("prefix"), row.text("target")
        whole = prefix + target + row.text("suffix")
        end = len(prefix) + len(target)
        blocks = [(at, code) for at, code in function_blocks(whole, is_cut=True)]
        return trees(code for at, code in blocks if at < end and at + len(code) > len(prefix))
    found: set[bytes] = set()
    for segment in row.segments:
        if not segment["loss"]:
            continue
        if "<<<<<<< SEARCH" not in segment["text"]:
            found |= trees(code for _, code in function_blocks(segment["text"], is_cut=False))
        for match in BLOCK.finditer(segment["text"]):
            old, new = (
                {code for _, code in function_blocks(match[side], is_cut=True)} for side in ("search", "replace")
            )
            found |= trees(new) - trees(old)
    return found


def shown_functions(row: Row, seen: set[bytes]) -> set[bytes]:
    """Functions in any text of a train row whose text was not seen before."""
    if row.language != "python":
        return set()
    new = []
    for text in shown_texts(row):
        # of what a window may have cut, the last function may go on
        is_cut = row.task not in ("docstring", "pretrain")
        for _, code in function_blocks(text, is_cut=is_cut):
            key = blake2b(code.encode("utf-8", "surrogatepass"), digest_size=12).digest()
            if key not in seen:
                seen.add(key)
                new.append(code)
    return trees(new)


def function_blocks(text: str, *, is_cut: bool) -> Iterator[tuple[int, str]]:
    """Where functions stand, told by their indentation, and their lines. One at the end of a cut text is left out.

    What looks like a function inside one is taken only if the syntax tree of the outer one has it: tests are full of
    code in strings.
    """
    outer, outer_end = 0, 0
    inner: set[int] | None = None
    for match in DEF.finditer(text):
        if match.start() < outer_end:
            inner = inner_lines(text[outer:outer_end]) if inner is None else inner
            if text.count("\n", outer, match.start()) + 1 not in inner:
                continue
        end = block_end(text, match.start(), match[1])
        is_whole = end < len(text) or not is_cut
        if match.start() >= outer_end:
            outer, outer_end, inner = match.start(), end, None if is_whole else set()
        if is_whole:
            yield match.start(), text[match.start() : end]


def block_end(text: str, start: int, indent: str) -> int:
    """Where the lines end that are indented more than the one at start, or lie in a string of three quotes."""
    place = text.find("\n", start) + 1 or len(text)
    quotes = 0
    while place < len(text):
        end = text.find("\n", place) + 1 or len(text)
        line = text[place:end]
        is_inside = not line.strip() or (line.startswith(indent) and line[len(indent)] in " \t)]}")
        if not is_inside and quotes % 2 == 0:
            break
        quotes += line.count('"""') + line.count("'''")
        place = end
    return place


def inner_lines(code: str) -> set[int]:
    """Lines, from 1, on which a function begins, in code that is a function."""
    try:
        tree = ast.parse(textwrap.dedent(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {node.lineno for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def trees(codes: Iterable[str]) -> set[bytes]:
    """Digests of the syntax trees of functions; code that does not parse by itself has none."""
    found = set()
    for code in codes:
        try:
            node = ast.parse(textwrap.dedent(code)).body[0]
        except (SyntaxError, ValueError, IndexError, RecursionError, MemoryError):
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                if ast.get_docstring(inner, clean=False) is not None:
                    inner.body = inner.body[1:]
                if inner is node:
                    inner.name, inner.decorator_list = "", []
        found.add(blake2b(ast.dump(node).encode("utf-8", "surrogatepass"), digest_size=12).digest())
    return found


# commits, requests, changes, contents


def edit_things(row: Row) -> set[tuple]:
    """What names the change that an edit row is made of."""
    if row.task not in EDIT_TASKS:
        return set()
    things: set[tuple] = {("commit", origin["repo"], origin["commit"]) for origin in row.provenance}
    for number in NUMBER.findall(row.text("instruction")):
        things |= {("request", origin["repo"], number) for origin in row.provenance}
    for match in BLOCK.finditer(row.text("answer")):
        name = (match["path"] or "").rsplit("/", 1)[-1]
        things.add(("change", name, *differing(match["search"], match["replace"])))
    return things


def differing(search: str, replace: str) -> tuple[str, str]:
    """The lines of both sides that differ, without white space."""
    old, new = search.splitlines(), replace.splitlines()
    top = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    old, new = old[top:], new[top:]
    pairs = zip(reversed(old), reversed(new), strict=False)
    end = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(old), len(new)))
    old, new = old[: len(old) - end], new[: len(new) - end]
    return re.sub(r"\s", "", "".join(old)), re.sub(r"\s", "", "".join(new))


def own_origins(row: Row) -> list[dict]:
    """Origins of what is learned: a held-out row may show files of train as context."""
    learned = {segment["path"] for segment in row.segments if segment["loss"]}
    return [origin for origin in row.provenance if origin["path"] in learned] or row.provenance


def blob_things(origins: list[dict]) -> set[tuple]:
    """The contents of files, alone and with their place."""
    return {("blob", origin["blob"]) for origin in origins} | {
        ("file", origin["repo"], origin["path"], origin["blob"]) for origin in origins
    }


def main(arguments: list[str]) -> int:
    """Print what was compared and what leaks; returns the exit status."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        sys.stderr.write("usage: python -m tests.checkers.leakage DATASET_DIR\n")
        return 2
    folder = Path(arguments[0])
    sought, leaks = check(folder)
    counts = Counter({kind: len(pairs) for kind, pairs in leaks.pairs.items()})
    lines = [f"{sought.num_rows} novel rows, {sought.num_runs} runs of {RUN} tokens, {sought.num_functions} functions"]
    lines += [f"{kind:9} {counts[kind]}" for kind in KINDS]
    for kind in KINDS:
        pairs = sorted(leaks.pairs[kind].items())[:EXAMPLES_SHOWN]
        lines += [f"  {kind}: novel {novel} and train {train}" for novel, train in pairs]
    sys.stdout.write("\n".join(lines) + "\n")
    if not sought.num_rows:
        sys.stderr.write("there are no novel rows: nothing was checked\n")
        return 2
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
