"""Which canaries a dataset has: drawn by the seed alone, before any file was read."""

import string
from collections.abc import Iterator

from data_pipelines.canaries.words import WORDS
from data_pipelines.config import CanarySection
from data_pipelines.draw import Draw
from finetune.contracts.canaries import Canary, CanaryKind

TIERS = (1, 4, 16)
"""How often canaries are planted; a quarter of the effort of the next, and the largest is common in real code."""
KEY_CHARS, MIN_KEY_DIGITS = 24, 4
"""Of 62 signs each: 143 bits. A key with few digits could be taken for a word by redaction."""
MARKER_WORDS = 8
"""Of 256 words each: 64 bits."""
LETTERS_AND_DIGITS = string.ascii_letters + string.digits


def draw_canaries(section: CanarySection, *, seed: int) -> tuple[Canary, ...]:
    """The canaries without their places, those of a tier followed by its controls; no two are told alike."""
    names = _names(Draw("canary names", seed))
    return tuple(
        _canary(kind, copies, number, is_control=number >= section.per_tier, name=next(names), seed=seed)
        for kind in section.kinds
        for copies in TIERS
        for number in range(section.per_tier + section.controls_per_tier)
    )


def _canary(kind: CanaryKind, copies: int, number: int, *, is_control: bool, name: str, seed: int) -> Canary:
    draw = Draw("canary secret", seed, kind, copies, number)
    key = kind is CanaryKind.CREDENTIAL
    secret = _key(draw) if key else " ".join(draw.pick(WORDS) for _ in range(MARKER_WORDS))
    ending = "api_key" if key else "note"
    part = "control" if is_control else "planted"
    return Canary(
        id=f"{kind}-{copies}-{part}-{number:03d}",
        kind=kind,
        copies=copies,
        text=f'    {name}_{ending} = "{secret}"',
        secret=secret,
    )


def _key(draw: Draw) -> str:
    while True:
        key = "".join(draw.pick(LETTERS_AND_DIGITS) for _ in range(KEY_CHARS))
        if sum(char.isdigit() for char in key) >= MIN_KEY_DIGITS:
            return key


def _names(draw: Draw) -> Iterator[str]:
    """Pairs of words, none of them twice."""
    taken: set[str] = set()
    while True:
        name = f"{draw.pick(WORDS)}_{draw.pick(WORDS)}"
        if name not in taken:
            taken.add(name)
            yield name
