"""What the embedded base can do on packages it never saw: bits per byte, the same from xz, and infill exact match."""

import lzma
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from finetune.embedded.corpus import Document
from finetune.embedded.rows import content_lines, tails, words
from finetune.embedded.tokenizer import END, Encoder

WINDOW_TOKENS = 1024
STRIDE_TOKENS = 512
BATCH_WINDOWS = 8
NUM_SPANS = 400
CONTEXT_CHARACTERS = 300
KINDS = WORD, REST_OF_LINE, LINE = "word", "rest of a line", "line"
MIN_SPAN_CHARACTERS = 4
MAX_NEW_TOKENS = 40
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class ExactMatch:
    """Spans of one kind reproduced exactly, and the 95 % Wilson interval of their share."""

    kind: str
    hits: int
    spans: int
    low: float
    high: float


@torch.no_grad()
def bits_per_byte(model: Any, encoder: Encoder, documents: Sequence[Document]) -> float:
    """Bits that the model needs for each UTF-8 byte of documents, each file on its own after an end token.

    Windows of 1,024 tokens overlap by half; a token is scored once, with at least 512 tokens before it where the file
    has them.
    """
    model.eval()
    nats, num_bytes = 0.0, 0
    windows: list[tuple[list[int], int]] = []
    for document in documents:
        ids = [encoder.special[END], *encoder.encode(document.text)]
        num_bytes += len(document.text.encode())
        windows += _windows(ids)
    windows.sort(key=lambda window: len(window[0]))
    for start in range(0, len(windows), BATCH_WINDOWS):
        nats += _score(model, windows[start : start + BATCH_WINDOWS])
    return nats / math.log(2) / num_bytes


def _windows(ids: list[int]) -> list[tuple[list[int], int]]:
    """(ids, first scored position) of each window; position 0 is never scored."""
    windows = [(ids[:WINDOW_TOKENS], 1)]
    start = STRIDE_TOKENS
    while start + WINDOW_TOKENS - STRIDE_TOKENS < len(ids):
        windows.append((ids[start : start + WINDOW_TOKENS], WINDOW_TOKENS - STRIDE_TOKENS))
        start += STRIDE_TOKENS
    return [window for window in windows if len(window[0]) > window[1]]


def _score(model: Any, windows: Sequence[tuple[list[int], int]]) -> float:
    longest = max(len(ids) for ids, _ in windows)
    batch = torch.zeros(len(windows), longest, dtype=torch.long)
    scored = torch.zeros(len(windows), longest, dtype=torch.bool)
    for row, (ids, first) in enumerate(windows):
        batch[row, : len(ids)] = torch.tensor(ids)
        scored[row, first : len(ids)] = True
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=batch, use_cache=False).last_hidden_state[:, :-1][scored[:, 1:]]
        logits = model.lm_head(hidden)
    return float(F.cross_entropy(logits.float(), batch[:, 1:][scored[:, 1:]], reduction="sum"))


def xz_bits_per_byte(documents: Sequence[Document]) -> float:
    """What `xz -9e` needs, file by file, in bits for each byte: a yardstick that knows no Python."""
    sources = [document.text.encode() for document in documents]
    preset = 9 | lzma.PRESET_EXTREME
    packed = sum(len(lzma.compress(source, format=lzma.FORMAT_XZ, preset=preset)) for source in sources)
    return 8 * packed / sum(map(len, sources))


@torch.no_grad()
def infill_exact_match(
    model: Any, encoder: Encoder, documents: Sequence[Document], *, kinds: Sequence[str] = KINDS, seed: int = 0
) -> tuple[ExactMatch, ...]:
    """Hide a word in 400 places, in 400 the rest of a line from a word on, in 400 a line; ask for each. One per kind.

    Greedy, with 300 characters on either side; the answer must be exact to the character and end where the text does.
    """
    model.eval()
    draw = random.Random(seed)
    found = []
    for kind in kinds:
        spans = [_span(draw.choice(documents).text, draw, kind=kind) for _ in range(NUM_SPANS)]
        hits = sum(_fills(model, encoder, *span) for span in spans)
        found.append(ExactMatch(kind, hits, NUM_SPANS, *wilson(hits, NUM_SPANS)))
    return tuple(found)


def _fills(model: Any, encoder: Encoder, text: str, start: int, end: int) -> bool:
    prompt = [
        encoder.special["<|fim_prefix|>"],
        *encoder.encode(text[max(0, start - CONTEXT_CHARACTERS) : start]),
        encoder.special["<|fim_suffix|>"],
        *encoder.encode(text[end : end + CONTEXT_CHARACTERS]),
        encoder.special["<|fim_middle|>"],
    ]
    return _writes(model, prompt, encoder.encode(text[start:end]), stops=frozenset(encoder.special.values()))


def _span(text: str, draw: random.Random, *, kind: str) -> tuple[str, int, int]:
    places = [
        (start, end)
        for start, end in content_lines(text)
        if end - start >= MIN_SPAN_CHARACTERS and len(text[start:end].encode()) <= MAX_NEW_TOKENS * 2
    ]
    start, end = draw.choice(places)
    if kind == WORD:
        # not a line of one word
        return text, *draw.choice(words(text, start, end)[1:] or [(start, end)])
    if kind == REST_OF_LINE:
        # not the whole line again: from a word inside it on, as from a cursor
        start = draw.choice(tails(text, start, end)[1:] or [start])
    return text, start, end


def _writes(model: Any, prompt: list[int], answer: list[int], *, stops: frozenset[int]) -> bool:
    """Whether greedy decoding gives the answer and then stops; it ends at the first difference."""
    if len(answer) > MAX_NEW_TOKENS:
        return False
    ids, past = torch.tensor([prompt]), None
    for wanted in [*answer, None]:
        output = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = output.past_key_values
        found = int(output.logits[0, -1].argmax())
        if wanted is None:
            return found in stops
        if found != wanted:
            return False
        ids = torch.tensor([[found]])
    return False


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): it stays inside 0 and 1 and holds for few hits."""
    share, square = hits / trials, NORMAL_95**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return middle - half, middle + half
