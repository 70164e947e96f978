"""Tokens a second of held-out scoring, beside the forward pass of training on the same rows and threads.

Scoring is the suite as `finetune evaluate` runs it: rows of unequal length, padded within a batch of like lengths.
The forward pass is that of training: adapter attached, autograd recording, the loss over learned tokens; its rows are
packed into sequences of max_tokens without padding, which is the best that training does. They take turns.
Run: .venv/bin/python bench/scoring.py RUN --home HOME [--rows 120] [--rounds 3]
"""

import argparse
import statistics
import time
from pathlib import Path

BAR = 0.8


def measured(args):
    """(scoring, forward) tokens a second of each round."""
    import torch

    from finetune.contracts.adapter_files import read_adapter
    from finetune.contracts.run import Home, RunLayout
    from finetune.evaluate.heldout import choose_examples, heldout_rows
    from finetune.evaluate.heldout_suite import HeldoutSuite
    from finetune.evaluate.suite import Subject
    from finetune.model.loading import load_base
    from finetune.model.lora import attach_saved
    from finetune.render.dataset import open_dataset
    from finetune.render.rows import Renderer
    from finetune.train.run_folder import read_state, run_recipe

    home = Home(args.home.absolute())
    layout = RunLayout(home.runs / args.run)
    state, recipe = read_state(layout), run_recipe(home, args.run)
    base = load_base(Path(state.base_path), quantization=read_adapter(layout.adapter).quantization)
    model = attach_saved(base, layout.adapter, "measured")
    size = recipe.data.max_tokens
    examples = choose_examples(open_dataset(Path(state.dataset_path)), None, seed=0)
    rows = heldout_rows(examples, Renderer(base.tokenizer, base.family, size), max_rows=args.rows)
    suite = HeldoutSuite(rows, pad_token=0, batch_rows=recipe.evaluate.batch_rows)
    num_tokens = sum(len(row.input_ids) for row in rows)
    stream = torch.tensor([token for row in rows for token in row.input_ids])
    learned = torch.tensor([label for row in rows for label in row.labels])
    whole = len(stream) // size * size
    sequences = list(zip(stream[:whole].view(-1, 1, size), learned[:whole].view(-1, 1, size), strict=True))

    def score():
        suite.measure(Subject("adapter", model), [task.id for task in suite.tasks], told=lambda _: None)

    def forward():
        model.train()
        for ids, labels in sequences:
            model(input_ids=ids, labels=labels, use_cache=False)
        model.eval()

    score(), forward()
    for number in range(args.rounds):
        pair = num_tokens / timed(score), whole / timed(forward)
        print(f"round {number + 1}: scoring {pair[0]:,.0f} tokens/s, forward of training {pair[1]:,.0f}")
        yield pair


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    pairs = list(measured(parser.parse_args()))
    share = statistics.median(scoring / forward for scoring, forward in pairs)
    print(f"Scoring reaches {share:.0%} of training's forward speed (bar {BAR:.0%}).")


if __name__ == "__main__":
    main()
