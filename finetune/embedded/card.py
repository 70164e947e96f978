"""The model card and the build record of the embedded base: how it was made, on what, and what was measured."""

from dataclasses import asdict, dataclass
from pathlib import Path

from finetune.contracts.io import to_json, write_text
from finetune.embedded.measure import ExactMatch
from finetune.embedded.pretraining import Schedule

RECORD_NAME = "build.json"
CARD_NAME = "README.md"


@dataclass(frozen=True)
class BuildRecord:
    """Everything the card states. by_package holds (held-out package, model's bits per byte, xz's)."""

    schedule: Schedule
    steps_done: int
    train_seconds: int
    num_parameters: int
    train_files: int
    train_bytes: int
    heldout_files: int
    heldout_bytes: int
    bits_per_byte: float
    xz_bits_per_byte: float
    by_package: tuple[tuple[str, float, float], ...]
    exact_match: tuple[ExactMatch, ...]
    licenses: tuple[tuple[str, str], ...]


def write_card(record: BuildRecord, folder: Path) -> None:
    """Write build.json and README.md beside the weights."""
    write_text(folder / RECORD_NAME, to_json(asdict(record)))
    write_text(folder / CARD_NAME, card_text(record))


def card_text(record: BuildRecord) -> str:
    """The model card in Markdown."""
    schedule = record.schedule
    return CARD.format(
        size=f"{record.num_parameters / 1e6:.1f}",
        seed=schedule.seed,
        steps=f"{record.steps_done:,}",
        planned=f"{schedule.steps:,}",
        infill_step=f"{schedule.infill_step:,}",
        rows=schedule.batch_rows,
        row_tokens=f"{schedule.row_tokens:,}",
        tokens=f"{record.steps_done * schedule.batch_rows * schedule.row_tokens / 1e6:.1f}",
        minutes=round(record.train_seconds / 60),
        rate=f"{schedule.learning_rate:g}",
        decay=f"{schedule.decay_share:.0%}",
        files=f"{record.train_files:,}",
        megabytes=f"{record.train_bytes / 1e6:.1f}",
        heldout=", ".join(name for name, _, _ in record.by_package),
        heldout_files=record.heldout_files,
        heldout_megabytes=f"{record.heldout_bytes / 1e6:.2f}",
        packages="\n".join(f"| {name} | {model:.3f} | {xz:.3f} |" for name, model, xz in record.by_package),
        bits=f"{record.bits_per_byte:.3f}",
        xz=f"{record.xz_bits_per_byte:.3f}",
        matches="\n".join(map(_match_row, record.exact_match)),
        licenses="\n".join(f"| {name} | {terms} |" for name, terms in record.licenses),
    )


def _match_row(match: ExactMatch) -> str:
    return (
        f"| {match.kind} | {match.hits} of {match.spans} | {match.hits / match.spans:.1%} "
        f"| {match.low:.1%} to {match.high:.1%} |"
    )


CARD = """# The embedded base

A causal language model of {size} M parameters with the architecture of Qwen3.5 text models (`Qwen3_5ForCausalLM`:
three Gated DeltaNet layers to one of gated full attention, the same module names as the 27B). It is a **stand-in**: it
lets every part of `finetune` run for real on a machine without a GPU. It writes plausible Python lines and no more; do
not deploy it. For work, point a recipe at a real base.

## How it was made

`python -m finetune.embedded.build`, seed {seed}, on a CPU: {steps} of {planned} planned steps of {rows} rows x
{row_tokens} tokens, {tokens} M tokens in all, {minutes} minutes of training. Muon on the matrices, AdamW on the
rest, peak rate {rate}, linear decay over the last {decay}.
Products in bfloat16, weights held in float32 and shipped in bfloat16.

Up to step {infill_step} half of the text is in infill rows (prefix, suffix, middle; a tenth of them with another file
before), then four fifths, in shorter windows; the tokens of a gap count four times in the loss. The rest is plain
source, rows of several files of one package, and a few chat rows made from functions and their docstrings. The
tokenizer is a byte-level BPE of 8,192 tokens learned from the same text, with the special tokens of Qwen3.5 by name.

## On what

{files} Python files, {megabytes} MB (a draw of which fills the rows), from the standard library and from packages
under permissive licences in the environment of `requirements.lock`, at most 1.2 MB of each; equal files once.
Held out as whole packages: {heldout} ({heldout_files} files, {heldout_megabytes} MB).

## What was measured

Over the held-out packages, each file on its own, windows of 1,024 tokens that overlap by half:

| package | bits per byte | `xz -9e`, file by file |
|---|---|---|
{packages}
| all | **{bits}** | {xz} |

Infill with 300 characters on either side, greedy, exact to the character and ended where the author's text ends:

| hidden | exact | share | 95 % interval (Wilson) |
|---|--:|--:|---|
{matches}

## Licences of the sources

| package | licence (version) |
|---|---|
{licenses}
"""
