"""What a teacher is asked, and how its answer is read."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from data_pipelines.mine.qa_seeds import Seed, SeedKind, Shown
from data_pipelines.questions.teacher import Message

NOT_TOLD = "NOT IN THE SOURCES"
THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
CITATION = re.compile(r"(?<![\w/.])((?:[\w@+.-]+/)*[\w@+.-]+):(\d{1,7})-(\d{1,7})(?!\d)")
ABOUT = {
    SeedKind.SYMBOL: "how this function behaves, when to use it, or what it does at its edges",
    SeedKind.DOCUMENT: "what this part of the documentation explains",
    SeedKind.COMMIT: "why or how this change was made, as the code stands now",
    SeedKind.FRAGMENT: "a task or a design decision that this fragment is an example of",
}
ASK = (
    "You write training material about a code repository. From the numbered sources write one question that a developer"
    " of this repository may ask who has not seen them, and its answer. Rules: the question names what it is about and"
    " never speaks of 'this code' or of line numbers; the answer uses nothing but the sources, explains in its own"
    " words, puts names of the code in backticks, and cites the lines that prove it as path:first-last. Reply with one"
    ' JSON object and nothing else: {"question": "...", "answer": "...", "citations": ["path:first-last"]}'
)
CHECK = (
    "Answer the question of a developer from the numbered sources alone, in two or three sentences. When they do not"
    f" hold the answer, reply with exactly: {NOT_TOLD}"
)


@dataclass(frozen=True, slots=True)
class Citation:
    """Lines first to last of a file."""

    path: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.path}:{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A question with its answer; the citations are those of the list and of the text, each once, in order."""

    question: str
    answer: str
    citations: tuple[Citation, ...]

    def cited_answer(self) -> str:
        """The answer with those citations added at its end that its text lacks."""
        lacking = [str(one) for one in self.citations if str(one) not in self.answer]
        return f"{self.answer} ({', '.join(lacking)})" if lacking else self.answer


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore")
    question: str
    answer: str
    citations: tuple[str, ...] = ()


def ask_prompt(seed: Seed) -> list[Message]:
    """The first talk: write a question and its answer about a seed."""
    sources = "\n".join(_source(one, one.first_line, one.last_line) for one in seed.shown)
    text = f"{sources}\nAsk about {ABOUT[seed.kind]}:\n\n{seed.focus}\n"
    return [Message("system", ASK), Message("user", text)]


def check_prompt(draft: Draft, cited: Sequence[tuple[Shown, Citation]]) -> list[Message]:
    """The second talk: the question with nothing but the cited lines."""
    sources = "\n".join(_source(shown, one.first, one.last) for shown, one in cited)
    return [Message("system", CHECK), Message("user", f"{sources}\nQuestion: {draft.question}\n")]


def read_draft(reply: str) -> Draft | None:
    """The first JSON object in a reply, after thoughts and between whatever else; None when none has the form."""
    text = THOUGHT.sub("", reply)
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text, start)
        wire = _Wire.model_validate(value)
    except (ValueError, RecursionError, ValidationError):
        return None
    answer = wire.answer.strip()
    found = [*CITATION.findall(answer), *CITATION.findall("\n".join(wire.citations))]
    citations = dict.fromkeys(Citation(path, int(first), int(last)) for path, first, last in found)
    return Draft(" ".join(wire.question.split()), answer, tuple(citations))


def _source(shown: Shown, first: int, last: int) -> str:
    return f"### {shown.document.path}\n{shown.numbered(first, last)}"
