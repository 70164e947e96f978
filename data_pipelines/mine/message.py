"""Commit messages as instructions: which say what was changed, and how they read without tracker noise."""

import re
from functools import lru_cache

from data_pipelines.document import Commit
from data_pipelines.filters.chain import readable_path
from data_pipelines.filters.generated import generated_name_reason
from data_pipelines.filters.language import is_wanted
from data_pipelines.filters.vendored import vendored_reason
from data_pipelines.task_config import CommitEditSection

MIN_SUBJECT_CHARS, MIN_SUBJECT_WORDS = 12, 3
MAX_SUBJECT_CHARS, MAX_BODY_CHARS = 200, 1200
# commits change the same files over and over
PATHS_KEPT = 1 << 14
BOT = re.compile(r"(?i)\[bot\]|\bdependabot\b|\brenovate\b|\bgithub-actions\b|\bpre-commit-ci\b|-bot\b")
NOISE = re.compile(
    r"(?i)^(?:merge\b|revert\b|fixup!|squash!|amend!|wip\b|bump\b|release\b|v?\d+\.\d+|version\b"
    r"|update (?:changelog|readme|authors|version|copyright)|prepare(?:d)? (?:for )?release"
    r"|typos?\b|fix(?:es|ed)? typos?\b|lint\b|format(?:ting)?\b|auto-?format"
    r"|black\b|isort\b|run (?:black|isort|ruff|pre-commit)|\[?pre-commit|initial commit|back ?port\b|svn\b)"
)
TAIL = re.compile(r"\s*(?:\(#\d+\)|\[#\d+\]|#\d+|\(gh-\d+\))\s*$", re.IGNORECASE)
# "[FIX-12]", "PROJ-123:", ":sparkles:", "✨", "svn r123" in front of what was done
HEAD = re.compile(
    r"^\s*(?:\[[^\]]{1,40}\]|[A-Z][A-Z0-9]+-\d+\s*[:\-]?|:[a-z0-9_+-]+:|#\d+\s*[:\-]?|[^\w\s\"'`(<*]+)\s*"
)
TRAILER = re.compile(
    r"(?i)^(?:signed-off-by|co-authored-by|reviewed-by|acked-by|tested-by|reported-by|suggested-by|cc|change-id|closes"
    r"|fixes|refs?|see|issue|bug|git-svn-id|reviewed-on|--hg--|branch|x-[a-z-]+|\(cherry picked from)\b.*$"
)


def edit_reason(commit: Commit, *, section: CommitEditSection, languages: tuple[str, ...]) -> str | None:
    """Why a commit gives no edit row, as far as its message and file list tell; None when it may."""
    code = [change for change in commit.changes if _is_wanted(change.path, languages)]
    if not code:
        return "no file of a supported language"
    if len(code) > section.max_files:
        return f"more than {section.max_files} code files"
    if any(change.status != "M" for change in code):
        return "adds, removes or renames a code file"
    if any(_not_first_party(change.path) for change in code):
        return "touches generated or vendored code"
    if BOT.search(commit.name) or BOT.search(commit.email):
        return "written by a bot"
    return None if normalise(commit.message) else "message says too little"


def normalise(message: str) -> str | None:
    """The message as an instruction: tickets, numbers, trailers taken off; None when little is left of it."""
    subject, _, body = message.strip().partition("\n")
    subject = _subject(subject)
    if NOISE.match(subject) or len(subject) < MIN_SUBJECT_CHARS or len(subject.split()) < MIN_SUBJECT_WORDS:
        return None
    if len(subject) > MAX_SUBJECT_CHARS:
        return None
    text = _body(body)
    return f"{subject}\n\n{text}" if text else subject


def _subject(text: str) -> str:
    before = None
    while before != text:
        before = text
        text = HEAD.sub("", TAIL.sub("", text), count=1).strip()
    return text


def _body(text: str) -> str:
    lines = [line.rstrip() for line in text.split("\n") if not TRAILER.match(line.strip())]
    kept = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    return kept if len(kept) <= MAX_BODY_CHARS else ""


@lru_cache(maxsize=PATHS_KEPT)
def _is_wanted(path: bytes, languages: tuple[str, ...]) -> bool:
    text = readable_path(path)
    return text is not None and is_wanted(text, languages)


@lru_cache(maxsize=PATHS_KEPT)
def _not_first_party(path: bytes) -> bool:
    text = readable_path(path)
    return text is None or bool(vendored_reason(text) or generated_name_reason(text))
