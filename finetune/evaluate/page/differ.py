"""Where an answer departs from what was wanted, as HTML: what it has too much is marked, what it lacks is put in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from markupsafe import Markup

from finetune.pages.text import harmless

# names, numbers, runs of blanks, and single signs: finer than words, coarser than letters
TOKEN = re.compile(r"\w+|[^\S\n]+|\n|.", re.DOTALL)
# comparing is quadratic in the number of tokens
MAX_CHARS, MAX_LINES = 4_000, 60
MAX_PROMPT_LINES = 12
EXTRA = Markup('<mark class="extra"><span class="unseen">extra: </span>{}</mark>')
MISSING = Markup('<del><span class="unseen">missing: </span>{}</del>')


@dataclass(frozen=True, slots=True)
class Code:
    """A text as HTML; hidden tells in words what of it is not shown, "" if nothing."""

    html: Markup
    hidden: str = ""


def plain(text: str) -> Code:
    """The beginning of a text."""
    shown, hidden = _cut(text)
    return Code(harmless(shown), hidden)


def tail(text: str) -> Code:
    """The end of a prompt, which touches what is asked."""
    lines = text.split("\n")
    shown = "\n".join(lines[-MAX_PROMPT_LINES:])[-MAX_CHARS:]
    over = len(lines) - MAX_PROMPT_LINES
    return Code(harmless(shown), f"{over:,} lines before are not shown" if over > 0 else "")


def compared(answer: str, wanted: str) -> Code:
    """answer, marked against wanted. Of long texts the beginnings are compared."""
    shown, hidden = _cut(answer)
    meant, cut = _cut(wanted)
    # of what reaches a cut, nobody knows whether the other text goes on with it
    parts = _parts(TOKEN.findall(shown), TOKEN.findall(meant), open_end=bool(hidden or cut))
    return Code(Markup("").join(parts), hidden)


def _parts(written: list[str], meant: list[str], *, open_end: bool) -> Iterator[Markup]:
    for kind, start, end, first, last in SequenceMatcher(a=meant, b=written, autojunk=False).get_opcodes():
        text, lacking = "".join(written[first:last]), "".join(meant[start:end])
        if kind == "equal" or (open_end and end == len(meant) and last == len(written)):
            yield harmless(text)
            continue
        if lacking:
            yield MISSING.format(harmless(lacking))
        if text:
            yield EXTRA.format(harmless(text))


def _cut(text: str) -> tuple[str, str]:
    lines = text.split("\n")
    shown = "\n".join(lines[:MAX_LINES])[:MAX_CHARS]
    left = len(text) - len(shown)
    return shown, f"{left:,} more characters are not shown" if left else ""
