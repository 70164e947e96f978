"""Make the embedded base: `python -m finetune.embedded.build --work DIR`. Stopped, it goes on from its last save."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.embedded import BASE_FOLDER
from finetune.embedded.card import BuildRecord, write_card
from finetune.embedded.corpus import Corpus, Document, collect
from finetune.embedded.rows import EVEN, INFILL_HEAVY, RowMaker, gap_weights
from finetune.embedded.tokenizer import END, Encoder, train_tokenizer
from finetune.guard.offline import go_offline

if TYPE_CHECKING:
    from finetune.embedded.pretraining import Schedule

TOKENIZER_BYTES = 20_000_000
SAMPLE_FILES = 20


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module."""
    options = _options(arguments)
    go_offline()
    import torch

    from finetune.embedded.measure import bits_per_byte
    from finetune.embedded.pretraining import Pretraining, Schedule
    from finetune.model.delta_layers import use_fast_delta_rule

    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    schedule = Schedule() if options.steps is None else Schedule(steps=options.steps)
    corpus = collect()
    encoder = _tokenizer(corpus, options.work)
    rows = _rows(corpus, encoder, options.work, schedule=schedule)
    _say(f"{len(corpus.train)} files to learn from, {len(corpus.heldout)} held out, {rows.size:,} tokens in rows")
    sample = corpus.heldout[:: max(1, len(corpus.heldout) // SAMPLE_FILES)]
    weights = gap_weights(rows, middle=encoder.special["<|fim_middle|>"], end=encoder.special[END])
    run = Pretraining(rows, weights, schedule, options.work)
    use_fast_delta_rule(run.model)
    if not options.export_now:
        run.run(measure=lambda model: bits_per_byte(model, encoder, sample), say=_say)
    _export(run, corpus, encoder, work=options.work, out=options.out)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m finetune.embedded.build", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".finetune/embedded-build"), help="Saves and tokenizer.")
    parser.add_argument("--out", type=Path, default=BASE_FOLDER, help="Where the finished base goes.")
    parser.add_argument("--steps", type=int, help="Steps of 4,096 tokens. None: as the schedule says.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--export-now", action="store_true", help="Export the newest save without training further.")
    return parser.parse_args(arguments)


def _tokenizer(corpus: Corpus, work: Path) -> Encoder:
    folder = work / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        train_tokenizer(_sample(corpus.train, TOKENIZER_BYTES), folder)
    return Encoder(folder)


def _sample(documents: Sequence[Document], num_bytes: int) -> list[str]:
    total = sum(len(document.text) for document in documents)
    every = max(1, round(total / num_bytes))
    return [document.text for document in documents[::every]]


def _rows(
    corpus: Corpus, encoder: Encoder, work: Path, *, schedule: "Schedule"
) -> "np.ndarray[Any, np.dtype[np.uint16]]":
    first, steps, tokens = min(schedule.infill_step, schedule.steps), schedule.steps, schedule.row_tokens + 1
    path = work / f"rows-{first}-{steps}x{schedule.batch_rows}x{tokens}.npy"
    if not path.exists():
        parts = [
            RowMaker(corpus.train, encoder, seed=number, mix=mix).packed(count * schedule.batch_rows, tokens)
            for number, (mix, count) in enumerate(((EVEN, first), (INFILL_HEAVY, steps - first)))
            if count
        ]
        np.save(path, np.concatenate(parts))
    return np.load(path)


def _export(run: Any, corpus: Corpus, encoder: Encoder, *, work: Path, out: Path) -> None:
    import shutil

    import torch

    from finetune.embedded.measure import bits_per_byte, infill_exact_match, xz_bits_per_byte

    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(work / "tokenizer" / name, out / name)
    # measured as shipped: rounded to bfloat16
    shipped = run.model.to(torch.bfloat16)
    shipped.save_pretrained(out)
    begun = time.monotonic()
    by_package = tuple(
        (name, bits_per_byte(shipped, encoder, files), xz_bits_per_byte(files))
        for name, files in _by_package(corpus.heldout)
    )
    whole = bits_per_byte(shipped, encoder, corpus.heldout)
    matches = infill_exact_match(shipped, encoder, corpus.heldout)
    record = BuildRecord(
        schedule=run.schedule,
        steps_done=run.step,
        train_seconds=round(run.seconds),
        num_parameters=sum(parameter.numel() for parameter in shipped.parameters()),
        train_files=len(corpus.train),
        train_bytes=sum(len(document.text.encode()) for document in corpus.train),
        heldout_files=len(corpus.heldout),
        heldout_bytes=sum(len(document.text.encode()) for document in corpus.heldout),
        bits_per_byte=whole,
        xz_bits_per_byte=xz_bits_per_byte(corpus.heldout),
        by_package=by_package,
        exact_match=matches,
        licenses=corpus.licenses,
    )
    write_card(record, out)
    exact = ", ".join(f"{match.hits} of {match.spans} exact ({match.kind})" for match in matches)
    _say(f"{out}: {whole:.3f} bits per byte, {exact}, {time.monotonic() - begun:.0f} s")


def _by_package(documents: Sequence[Document]) -> list[tuple[str, list[Document]]]:
    names = dict.fromkeys(document.package for document in documents)
    return [(name, [document for document in documents if document.package == name]) for name in names]


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
