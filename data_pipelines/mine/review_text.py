"""Review threads as an instruction: what was said before the fix, by whom as a number, about which line."""

import re
from collections.abc import Sequence

from data_pipelines.mine.review_fix import Fix
from data_pipelines.sources.forge.records import ReviewComment

# a login in a sentence: not the "@" of an address, of a package or a path, and no call of a decorator
MENTION = re.compile(r"(?<![\w@./`-])@([A-Za-z0-9](?:[A-Za-z0-9_.\-]{0,37}[A-Za-z0-9])?)(?![\w/(@])")
CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`)", re.DOTALL)
HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
MIN_KEY_CHARS = 3


class Persons:
    """Numbers for the persons of one row, in the order in which they appear."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def name(self, key: str) -> str:
        """reviewer-1 and so on; capitals do not make another person."""
        return f"reviewer-{self._numbers.setdefault(key.lower(), len(self._numbers) + 1)}"

    def take_out(self, text: str) -> str:
        """The text with logins behind "@" outside of code, and the persons of this row anywhere, as numbers."""
        parts = CODE.split(text)
        parts[::2] = [MENTION.sub(lambda found: "@" + self.name(found[1]), part) for part in parts[::2]]
        text = "".join(parts)
        for key in sorted(self._numbers, key=lambda key: (-len(key), key)):
            # one word alone may be any word of the code; behind "@", or as a full name, it is a person
            mark = "" if " " in key else "@"
            if len(key) >= MIN_KEY_CHARS:
                pattern = rf"(?i)(?<![\w@]){re.escape(mark + key)}(?![\w-])"
                text = re.sub(pattern, mark + self.name(key), text)
        return text


def instruction(fixes: Sequence[Fix], before: Sequence[str]) -> str:
    """The threads that a commit answers, each under its line; before are the lines of the redacted file before it."""
    persons = Persons()
    said = [_before_the_fix(fix) for fix in fixes]
    for comments in said:
        for comment in comments:
            persons.name(comment.author_key)
    parts = []
    for fix, comments in zip(fixes, said, strict=True):
        quoted = before[fix.line - 1].strip() if fix.line <= len(before) else ""
        head = f"{fix.thread.path}, line {fix.line}:\n" + (f"> {quoted}\n" if quoted else "")
        parts.append(f"{head}\n{_talk(comments, persons)}")
    return "\n\n".join(parts)


def _before_the_fix(fix: Fix) -> list[ReviewComment]:
    # what came later often tells what was done
    return [comment for comment in fix.thread.comments if comment.created_at < fix.commit.time]


def _talk(comments: Sequence[ReviewComment], persons: Persons) -> str:
    texts = [persons.take_out(_plain(comment.text)) for comment in comments]
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(
        f"{persons.name(comment.author_key)}: {text}" for comment, text in zip(comments, texts, strict=True) if text
    )


def _plain(text: str) -> str:
    text = HTML_COMMENT.sub("", text.replace("\r\n", "\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()
