"""What a model wrote becomes files of the tree: a body in place of the lines it was asked for, or edits of files."""

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from finetune.contracts.edit_blocks import Block, apply_blocks, read_blocks, write_blocks
from finetune.contracts.executed import ExecutedTask, FileText
from finetune.evaluate.executed.cut import cut_body, syntax_of

# infill: the rest of the body behind its first line's indentation; body: its lines; blocks: search/replace blocks
Form = Literal["infill", "body", "blocks"]
FENCE = "```"


@dataclass(frozen=True, slots=True)
class Hole:
    """A file without a function's body: before ends with the indentation of its first line, after begins behind it."""

    before: str
    indent: str
    body: str
    after: str


def hole_of(text: str, task: ExecutedTask) -> Hole:
    """The hole of a body task in its file; before + body + after is text, and body begins behind its indentation."""
    lines = text.split("\n")
    whole = "\n".join(lines[task.first_line - 1 : task.last_line])
    start = sum(len(line) + 1 for line in lines[: task.first_line - 1])
    body = whole.lstrip(" \t")
    indent = whole[: len(whole) - len(body)]
    return Hole(text[:start] + indent, indent, body, text[start + len(whole) :])


def files_of(answer: str, task: ExecutedTask, *, form: Form, before: Mapping[str, str]) -> tuple[FileText, ...]:
    """The files that answer makes of before, texts by path. Raises ValueError saying why it is no answer.

    Only what was asked for can change: the lines of the body, or the files that the commit changed.
    """
    if form == "blocks":
        return _edited(answer, before=before)
    hole = hole_of(before[task.path], task)
    text = answer if form == "infill" else _as_infill(without_fence(answer), hole.indent, language=task.language)
    # the indentation of the first line is there already
    body = cut_body(text.lstrip(" \t"), language=task.language, indent=hole.indent)
    if not body:
        raise ValueError("no text")
    return (FileText(path=task.path, text=hole.before + body + hole.after),)


def gold_answer(task: ExecutedTask, *, form: Form, before: Mapping[str, str]) -> str | None:
    """What a model that writes as the author did would answer; None where the form cannot say it."""
    if form != "blocks":
        return task.gold[0].text if form == "body" else (task.gold[0].text or "").lstrip(" \t")
    return whole_file_blocks(before, {file.path: file.text for file in task.gold})


def whole_file_blocks(before: Mapping[str, str], after: Mapping[str, str | None]) -> str | None:
    """Blocks that put the whole texts of after in place of those of before; None where a text cannot be in a block."""
    written = [
        None if text is None else write_blocks(path, [Block(before.get(path, ""), text)])
        for path, text in after.items()
        if text != before.get(path)
    ]
    return None if None in written else "".join(text or "" for text in written)


def without_fence(answer: str) -> str:
    """answer without one code fence around all of it, as chat models like to write."""
    lines = answer.strip("\n").split("\n")
    closing = next((place for place, line in enumerate(lines[1:], start=1) if line.strip() == FENCE), 0)
    if lines[0].startswith(FENCE) and closing and not "".join(lines[closing + 1 :]).strip():
        return "\n".join(lines[1:closing]) + "\n"
    return answer


def _as_infill(answer: str, indent: str, *, language: str) -> str:
    """Lines of a body, indented as they stand in the file whatever the model's margin was, where that has a meaning."""
    text = answer.strip("\n")
    if not syntax_of(language).indented:
        return text  # lines of a string at the margin stay there
    margin = text[: len(text) - len(text.lstrip(" \t"))]
    return text if margin == indent else textwrap.indent(textwrap.dedent(text), indent)


def _edited(answer: str, *, before: Mapping[str, str]) -> tuple[FileText, ...]:
    text = without_fence(answer)
    if not text.strip():
        raise ValueError("no block")
    blocks: defaultdict[str, list[Block]] = defaultdict(list)
    for path, block in read_blocks(text if text.endswith("\n") else text + "\n"):
        blocks[path].append(block)
    return tuple(_apply(path, found, before=before) for path, found in sorted(blocks.items()))


def _apply(path: str, blocks: Sequence[Block], *, before: Mapping[str, str]) -> FileText:
    if path not in before:
        raise ValueError(f"{path[:80]!r} is none of the files that were shown")
    text = apply_blocks(before[path], blocks)
    if text is None:
        raise ValueError(f"a search does not occur exactly once in {path}")
    return FileText(path=path, text=text)
