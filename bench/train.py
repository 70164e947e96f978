"""Time per token of training through this project, beside the plainest script of TRL and PEFT (bench/plain_trl.py).

Both take the same rows in the same order and passes, the same optimiser, factors in float32, the same threads. Each run
is a process of its own, and they take turns. The first step is left out: it warms up. This project runs as a user runs
it, with its record in MLflow, a journal on the disk and a guard on each gradient.
Run: .venv/bin/python bench/train.py DATASET [--steps 12] [--rounds 3] [--recipe RECIPE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "qwen3_5" / "embedded-qlora.yaml"
PLAIN = Path(__file__).with_name("plain_trl.py")
OURS, EQUAL, PEER = "finetune", "finetune, the library's delta rule", "plain TRL + PEFT"
BAR = 1.05


def resolved(args):
    """The recipe with the few steps of this comparison, without checkpoints in between."""
    from finetune.recipe.load import load_recipe
    from finetune.recipe.resolve import resolve

    sets = [f"data.dataset={args.dataset}", f"train.max_steps={args.steps}", "train.save_every_steps=100000"]
    return resolve(load_recipe(args.recipe, [*sets, "train.packing=false", *args.set]))


def prepare(args):
    """Write the plain script's settings and rows, and print the tokens of each step."""
    from finetune.families.registry import family_for
    from finetune.model.loading import choose_device, load_tokenizer
    from finetune.render.dataset import open_dataset
    from finetune.train.data import dataset_folder, order_rows, prepare_rows, row_lengths
    from finetune.train.trl_bridge import CPU_OPTIMIZERS, OPTIMIZERS

    recipe = resolved(args)
    tokenizer = load_tokenizer(Path(recipe.base.path))
    family = family_for(recipe.base.model_type).for_tokenizer(tokenizer)
    rows = prepare_rows(open_dataset(dataset_folder(recipe)), tokenizer, family, resolved=recipe).train
    order = order_rows(rows, recipe, packed=False)
    optimizers = CPU_OPTIMIZERS if choose_device("auto") == "cpu" else OPTIMIZERS
    settings = {
        "base": recipe.base.path,
        "keep_16bit": recipe.base.keep_16bit,
        "targets": recipe.lora.targets,
        "rank": recipe.lora.rank,
        "alpha": recipe.lora.alpha,
        "steps": args.steps,
        "micro_batch": recipe.train.micro_batch,
        "accumulation": recipe.train.accumulation,
        "learning_rate": recipe.train.learning_rate,
        "optimizer": optimizers[recipe.train.optimizer],
        "checkpointing": recipe.train.activation_checkpointing,
        "rows": [{"input_ids": rows[index].input_ids, "labels": rows[index].labels} for index in order.indices],
    }
    (args.work / "settings.json").write_text(json.dumps(settings))
    (args.work / "tokens.json").write_text(json.dumps(order.step_tokens(row_lengths(rows))))


def ours(args):
    """Train as `finetune train` does, and write when each step ended."""
    from finetune.cli.train import run_training
    from finetune.contracts.run import Home
    from finetune.model import loading
    from finetune.train.reporting import Reporter

    if args.part == EQUAL:
        loading.use_fast_delta_rule = lambda model: 0
    ends = []
    keep = Reporter.step_done

    def step_done(self, step, loss):
        keep(self, step, loss)
        ends.append((time.perf_counter(), time.process_time()))

    Reporter.step_done = step_done
    run_training(resolved(args), Home(args.work / "home"))
    args.out.write_text(json.dumps(ends))


def measure(args, part):
    """One process: wall and CPU microseconds per token of each of its steps after the first."""
    out = args.work / "ends.json"
    common = [sys.executable, __file__, str(args.dataset), "--work", str(args.work), "--out", str(out)]
    common += ["--steps", str(args.steps), "--recipe", str(args.recipe), *(f"--set={text}" for text in args.set)]
    command = [*common, "--part", part]
    if part == PEER:
        command = [sys.executable, str(PLAIN), str(args.work / "settings.json"), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    if part == "prepare":
        return None
    ends = json.loads(out.read_text())
    tokens = json.loads((args.work / "tokens.json").read_text())[1 : len(ends)]
    return [
        [1e6 * (end - start) / num_tokens for start, end in zip(before, after, strict=True)]
        for (before, after), num_tokens in zip(pairwise(ends), tokens, strict=True)
    ]


def compare(args):
    """All rounds, then a table: medians over steps, and of ratios to the same step of the plain script."""
    measure(args, "prepare")
    found = {part: [] for part in (OURS, PEER, EQUAL)}
    for number in range(args.rounds):
        for part, steps in found.items():
            steps.extend(measure(args, part))
            wall, cpu = (statistics.median(step[kind] for step in steps) for kind in (0, 1))
            print(f"round {number + 1}: {part}: {wall:.0f} us per token, {cpu:.0f} CPU us", file=sys.stderr)
    print("| | us per token | CPU us per token | wall, of the plain script's | CPU, of the plain script's |")
    print("| --- | --: | --: | --: | --: |")
    for part, steps in found.items():
        medians = [f"{statistics.median(step[kind] for step in steps):.0f}" for kind in (0, 1)]
        print(
            f"| {part} | " + " | ".join([*medians, *(ratio_text(steps, found[PEER], kind) for kind in (0, 1))]) + " |"
        )
    ratio = statistics.median(step[0] / peer[0] for step, peer in zip(found[EQUAL], found[PEER], strict=True))
    print(f"\nAt equal kernels {ratio:.3f} of the plain script's time, {'within' if ratio <= BAR else 'OVER'} {BAR}.")


def ratio_text(steps, peer, kind):
    """Median of the ratios of equal steps, and their middle half."""
    ratios = [step[kind] / other[kind] for step, other in zip(steps, peer, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.dataset, args.recipe = args.dataset.resolve(), args.recipe.resolve()
    if args.part:
        prepare(args) if args.part == "prepare" else ours(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        args.work = Path(folder)
        compare(args)


if __name__ == "__main__":
    main()
