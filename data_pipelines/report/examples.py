"""Rows as a person reads them: what is shown to the model, what is learned, and where it came from."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from data_pipelines.report.survey import FIRST_TIME, LAST_TIME, side_of
from data_pipelines.report.text import excerpt, name
from finetune.contracts.dataset import INFILL_TASKS, Example, Provenance, Role, Segment
from finetune.pages.text import Excerpt

MAX_LINES = {Role.CONTEXT: 16, Role.PREFIX: 14, Role.SUFFIX: 10, Role.INSTRUCTION: 24, Role.TARGET: 40, Role.ANSWER: 48}
MAX_CHARS = {
    Role.CONTEXT: 1200,
    Role.PREFIX: 1600,
    Role.SUFFIX: 1000,
    Role.INSTRUCTION: 2000,
    Role.TARGET: 4000,
    Role.ANSWER: 4000,
}
MAX_CONTEXTS = 3
MAX_BLOCKS = 4
MAX_PLACES = 6
AROUND_A_GAP = sorted([Role.PREFIX, Role.SUFFIX, Role.TARGET])


@dataclass(frozen=True, slots=True)
class Block:
    """A segment, or the three of an infill row in one. hidden tells in words what of it is not shown, "" if nothing."""

    label: str
    path: Markup
    html: Markup
    hidden: str
    size: int
    learned: bool = False
    folded: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """One row for the page. places are all files it came from, facts what else is known of it."""

    id: str
    side: str
    language: Markup
    stratum: Markup
    place: Markup
    more_places: tuple[Markup, ...]
    hidden_places: int
    facts: tuple[tuple[str, Markup], ...]
    blocks: tuple[Block, ...]
    hidden_blocks: int


def card(example: Example) -> Card:
    """The row, cut to a size at which a page holds a hundred of them."""
    places = [_place(item) for item in example.provenance]
    blocks = _blocks(example)
    shown = _limited(blocks)
    return Card(
        id=example.id[:12],
        side=side_of(example.split, example.slice),
        language=name(example.language),
        stratum=name(example.stratum),
        place=places[0] if places else Markup("no file"),
        more_places=tuple(places[1:MAX_PLACES]),
        hidden_places=max(0, len(places) - MAX_PLACES),
        facts=tuple(_facts(example)),
        blocks=tuple(shown),
        hidden_blocks=len(blocks) - len(shown),
    )


def _blocks(example: Example) -> list[Block]:
    """Segments in their order, those around a gap as one."""
    segments = list(example.segments)
    around = [segment for segment in segments if segment.role is not Role.CONTEXT]
    if example.task in INFILL_TASKS and sorted(row.role for row in around) == AROUND_A_GAP:
        return [*(_block(row) for row in segments if row.role is Role.CONTEXT), _source(around)]
    return [_block(segment) for segment in segments]


def _limited(blocks: list[Block]) -> list[Block]:
    """The first few contexts and the first few of the others: a pretrain row may hold a whole repository."""
    num_seen = {True: 0, False: 0}
    shown = []
    for block in blocks:
        num_seen[block.folded] += 1
        if num_seen[block.folded] <= (MAX_CONTEXTS if block.folded else MAX_BLOCKS):
            shown.append(block)
    return shown


def _block(segment: Segment) -> Block:
    shown = _excerpt(segment)
    return Block(
        label=str(segment.role),
        path=name(segment.path or ""),
        html=shown.html,
        hidden=_hidden(shown.hidden_lines, "more"),
        size=len(segment.text.encode("utf-8")),
        learned=segment.loss,
        folded=segment.role is Role.CONTEXT,
        prose=segment.role is Role.INSTRUCTION,
    )


def _source(segments: list[Segment]) -> Block:
    """Prefix, target and suffix as the one piece of source that they are, with the gap marked."""
    by_role = {segment.role: segment for segment in segments}
    shown = {role: _excerpt(segment, end=role is Role.PREFIX) for role, segment in by_role.items()}
    target, gap = by_role[Role.TARGET], shown[Role.TARGET]
    cut = Markup('\n<span class="cut">{}</span>\n').format(_hidden(gap.hidden_lines, "more of the gap"))
    html = (
        shown[Role.PREFIX].html
        + Markup('<mark class="learned"><span class="unseen">learned: </span>{}</mark>').format(gap.html)
        + Markup('<span class="unseen"> end of what is learned </span>')
        + (cut if gap.hidden_lines else Markup(""))
        + shown[Role.SUFFIX].html
    )
    hidden = [
        _hidden(shown[Role.PREFIX].hidden_lines, "before"),
        _hidden(shown[Role.SUFFIX].hidden_lines, "after"),
    ]
    return Block(
        label="source, with the gap to fill",
        path=name(target.path or ""),
        html=html,
        hidden=", ".join(filter(None, hidden)),
        size=sum(len(segment.text.encode("utf-8")) for segment in segments),
    )


def _excerpt(segment: Segment, *, end: bool = False) -> Excerpt:
    return excerpt(segment.text, max_lines=MAX_LINES[segment.role], max_chars=MAX_CHARS[segment.role], end=end)


def _hidden(lines: int, where: str) -> str:
    return f"{lines:,} {'line' if lines == 1 else 'lines'} {where}" if lines else ""


def _place(item: Provenance) -> Markup:
    return Markup("{}:{}:{}-{} @ {}").format(
        name(item.repo), name(item.path), item.first_line, item.last_line, name(item.commit[:12])
    )


def _facts(example: Example) -> Iterable[tuple[str, Markup]]:
    yield "row", name(example.id[:16])
    yield "cluster", name(example.cluster)
    yield "visible to", name(example.visibility)
    if example.provenance:
        first = example.provenance[0]
        yield "committed", name(day(first.committed_at))
        yield "author", name(first.author)
        yield "licence", name(first.license or "none found")
    yield "placeholders", name(str(example.redactions))


def day(seconds: int) -> str:
    """A day in UTC, "unknown" for a time that cannot be one of a commit."""
    known = FIRST_TIME <= seconds < LAST_TIME
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d") if known else "unknown"
