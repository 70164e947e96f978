"""Whether an answer of a teacher can be believed and is worth learning; each check has its reason."""

import re
from collections.abc import Callable, Iterator, Sequence

from data_pipelines.mine.qa_prompt import CITATION, NOT_TOLD, Citation, Draft
from data_pipelines.mine.qa_seeds import Seed, Shown
from data_pipelines.task_config import QaSection

Knows = Callable[[str], bool]
MIN_QUESTION_CHARS, MAX_QUESTION_CHARS = 15, 400
REFUSED = re.compile(
    r"(?i)\b(?:i (?:cannot|can't|can not|am unable|won't)|i'm (?:sorry|unable)|as an ai|sorry, (?:but )?i)\b"
)
# a question that only makes sense beside the excerpt
LEANS = re.compile(
    r"(?i)\b(?:this|the (?:above|given|shown|following|provided|listed)|these)"
    r" (?:code|snippet|fragment|excerpt|file|function|method|class|text|section|commit|change|lines?|sources?)\b"
    r"|\b(?:shown|listed|given|described|mentioned) above\b|\blines? \d+"
)
IN_BACKTICKS = re.compile(r"(?<!`)`([^`\n]{1,200})`(?!`)")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")
WORD = re.compile(r"[^\W_]+")
RUN_WORDS = 8
COMMON = (
    "the and for are was were that this with from have has had not but its his her they them then than when which will"
    " would can could should into onto only also each any all one two other more most such some there their what where"
    " who how why does did done been being because while until after before between about over under again same"
)
COMMON_WORDS = frozenset(COMMON.split())


def problem_of(draft: Draft, seed: Seed, *, knows: Knows, section: QaSection) -> str:
    """Why a draft cannot be used; "" when nothing that needs no second answer speaks against it."""
    return next(_problems(draft, seed, knows, section), "")


def _problems(draft: Draft, seed: Seed, knows: Knows, section: QaSection) -> Iterator[str]:
    if REFUSED.search(draft.answer) or REFUSED.search(draft.question):
        yield "the teacher refused"
    if not MIN_QUESTION_CHARS <= len(draft.question) <= MAX_QUESTION_CHARS:
        yield f"the question has not {MIN_QUESTION_CHARS} to {MAX_QUESTION_CHARS} characters"
    if not section.min_answer_chars <= len(draft.answer) <= section.max_answer_chars:
        yield f"the answer has not {section.min_answer_chars} to {section.max_answer_chars} characters"
    if LEANS.search(draft.question) or CITATION.search(draft.question):
        yield "the question leans on what was shown"
    if not draft.citations:
        yield "the answer cites nothing"
    if any(shown_of(one, seed.shown) is None for one in draft.citations):
        yield "a citation is not among the lines that were shown"
    if sum(one.last - one.first + 1 for one in draft.citations) > section.max_cited_lines:
        yield f"more than {section.max_cited_lines} lines are cited"
    if unknown_names(draft, seed, knows):
        yield "a name in backticks is not in the repository"
    if copied_share(draft.answer, seed) > section.max_copied_share:
        yield "the answer copies its sources"


def shown_of(citation: Citation, shown: Sequence[Shown]) -> Shown | None:
    """The excerpt that holds all cited lines; None when there is none."""
    for one in shown:
        is_inside = one.first_line <= citation.first <= citation.last <= one.last_line
        if one.document.path == citation.path and is_inside:
            return one
    return None


def unknown_names(draft: Draft, seed: Seed, knows: Knows) -> list[str]:
    """Names in backticks that stand neither in what was shown nor elsewhere in the repository, as knows tells."""
    seen = {name for one in seed.shown for line in one.lines for name in NAME.findall(line)}
    seen |= {name for one in seed.shown for name in NAME.findall(one.document.path)} | set(NAME.findall(seed.focus))
    quoted = IN_BACKTICKS.findall(f"{draft.question}\n{draft.answer}")
    names = dict.fromkeys(name for text in quoted if not CITATION.search(text) for name in NAME.findall(text))
    return [name for name in names if name not in seen and not knows(name)]


def copied_share(answer: str, seed: Seed) -> float:
    """The share of an answer's words that lie in runs of eight which stand in its sources too."""
    words = _words(CITATION.sub(" ", answer))
    sources = [_words("\n".join(one.lines)) for one in seed.shown] + [_words(seed.focus)]
    runs = {tuple(part[place : place + RUN_WORDS]) for part in sources for place in range(len(part) - RUN_WORDS + 1)}
    copied: set[int] = set()
    for place in range(len(words) - RUN_WORDS + 1):
        if tuple(words[place : place + RUN_WORDS]) in runs:
            copied.update(range(place, place + RUN_WORDS))
    return len(copied) / max(1, len(words))


def disagreement(draft: Draft, second: str, section: QaSection) -> str:
    """Why the answer that was given from the cited lines alone does not bear the draft out; "" when it does."""
    if NOT_TOLD in second.upper() or REFUSED.search(second):
        return "the cited lines do not hold the answer"
    told, again = _telling(CITATION.sub(" ", draft.answer)), _telling(second)
    if not told or len(told & again) / len(told) < section.min_agreement:
        return "a second answer from the cited lines alone differs"
    return ""


def _words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]


def _telling(text: str) -> set[str]:
    return {word for word in _words(text) if len(word) > 2 and word not in COMMON_WORDS}
