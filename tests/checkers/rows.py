"""Check rows of a dataset against the repositories that they came from, with nothing of data_pipelines.

python -m tests.checkers.rows DATASET NAME=REPOSITORY [NAME=REPOSITORY ...]

infill, repo_infill: prefix + target + suffix is one stretch of the file that provenance names, byte for byte.
commit_edit: the context files are those of the commit's parent, and the blocks, applied in order, each search found
exactly once, give those of the commit.
search_replace: the block, applied to the shown text, gives one stretch of the file.
pretrain: each segment is one stretch of the file.
A placeholder of redaction stands for any text without a line break. Prints counts; exits 1 when a row fails.
"""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PLACEHOLDER = re.compile(r"REDACTED_[A-Z0-9_]+?_[0-9a-f]{8}|redacted-[0-9a-f]{8}@example\.com")
MARK = "<<< THE MISSING PART >>>"
Row = dict[str, Any]


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0])
    repositories = dict(word.split("=", 1) for word in arguments[1:])
    checked: Counter[tuple[str, str]] = Counter()
    failed: list[str] = []
    for row in rows(folder):
        path = repositories.get(row["provenance"][0]["repo"])
        check = CHECKS.get(row["task"])
        if path is None or check is None:
            continue
        checked[row["task"], row["language"]] += 1
        reason = check(row, path)
        if reason:
            failed.append(f"{row['id']} {row['task']} {row['provenance'][0]['path']}: {reason}")
    for (task, language), count in sorted(checked.items()):
        say(f"{task} {language} {count}")
    say(f"{sum(checked.values())} rows checked, {len(failed)} fail")
    for line in failed[:20]:
        say(line)
    return 1 if failed or not checked else 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def rows(folder: Path) -> Iterator[Row]:
    for path in sorted([*folder.glob("train-*.parquet"), *folder.glob("heldout-*.parquet")]):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                yield from batch.to_pylist()


def gap(row: Row, repository: str) -> str:
    texts = {part["role"]: part["text"] for part in row["segments"] if part["role"] != "context"}
    whole = texts["prefix"] + texts["target"] + texts["suffix"]
    return "" if stands_in(whole, blob(repository, row["provenance"][0]["blob"])) else "no stretch of the file"


def learned(row: Row, repository: str) -> str:
    for part, place in zip(row["segments"], row["provenance"], strict=True):
        if not stands_in(part["text"], blob(repository, place["blob"])):
            return f"{place['path']} is no stretch of the file"
    return ""


def replaced(row: Row, repository: str) -> str:
    shown = next(part["text"] for part in row["segments"] if part["role"] == "context")
    answer = next(part["text"] for part in row["segments"] if part["role"] == "answer")
    if shown.count(MARK) != 1:
        return "not one mark"
    blocks = list(blocks_of(answer))
    if len(blocks) != 1:
        return "not one block"
    text = applied(shown, [block[1:] for block in blocks])
    if text is None:
        return "the block does not apply exactly once"
    return "" if stands_in(text, blob(repository, row["provenance"][0]["blob"])) else "no stretch of the file"


def edit(row: Row, repository: str) -> str:
    commit = row["provenance"][0]["commit"]
    answer = next(part["text"] for part in row["segments"] if part["role"] == "answer")
    by_path: dict[str, list[tuple[str, str]]] = {}
    for path, search, replace in blocks_of(answer):
        by_path.setdefault(path, []).append((search, replace))
    contexts = {part["path"]: part["text"] for part in row["segments"] if part["role"] == "context"}
    if set(contexts) != set(by_path):
        return "blocks and contexts are of different files"
    for path, before in contexts.items():
        if not equals(before, show(repository, f"{commit}^:{path}")):
            return f"{path} is not that of the parent"
        after = applied(before, by_path[path])
        if after is None:
            return f"{path}: a block does not apply exactly once"
        if not equals(after, show(repository, f"{commit}:{path}")):
            return f"{path} is not that of the commit"
    return ""


def applied(text: str, blocks: list[tuple[str, str]]) -> str | None:
    for search, replace in blocks:
        # looked ahead for, so that a place inside a line does not hide one that begins a line
        places = [at.start() for at in re.finditer(r"^(?=" + re.escape(search) + ")", text, re.MULTILINE)]
        if len(places) != 1:
            return None
        text = text[: places[0]] + replace + text[places[0] + len(search) :]
    return text


def blocks_of(answer: str) -> Iterator[tuple[str, str, str]]:
    pattern = r"([^\n]+)\n<<<<<<< SEARCH\n(.*?)=======\n(.*?)>>>>>>> REPLACE\n"
    place = 0
    for match in re.finditer(pattern, answer, re.DOTALL):
        assert match.start() == place, "text between blocks"
        place = match.end()
        yield match[1], match[2], match[3]
    assert place == len(answer), "text after the last block"


def stands_in(text: str, source: str) -> bool:
    return text in source or bool(PLACEHOLDER.search(text) and re.search(wildcards(text), source))


def equals(text: str, source: str) -> bool:
    return text == source or bool(PLACEHOLDER.search(text) and re.fullmatch(wildcards(text), source))


def wildcards(text: str) -> str:
    return r"[^\n]*?".join(map(re.escape, PLACEHOLDER.split(text)))


@lru_cache(maxsize=256)
def blob(repository: str, name: str) -> str:
    return decoded(git(repository, "cat-file", "blob", name))


@lru_cache(maxsize=256)
def show(repository: str, name: str) -> str:
    return decoded(git(repository, "cat-file", "blob", name))


def decoded(content: bytes) -> str:
    return content.decode("utf-8").removeprefix("\ufeff")


def git(repository: str, *words: str) -> bytes:
    command = ["git", "-c", "safe.directory=*", "-C", repository, *words]
    return subprocess.run(command, capture_output=True, check=True).stdout


CHECKS = {"infill": gap, "repo_infill": gap, "pretrain": learned, "search_replace": replaced, "commit_edit": edit}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
