"""Does an evaluation find what was planted, and nothing where nothing is?

Three adapters' worth of evidence on one dataset: trained on it (must be better), trained on a copy whose learned texts
have their words shuffled (must be worse), and the base against itself, both sides drawing their answers anew, repeated
(must be "not shown" in at least 95 of 100).
Run: .venv/bin/python bench/planted.py DATASET --home SCRATCH [--set train.max_steps=64] [--repeats 100]
"""

import argparse
import itertools
import json
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "qwen3_5" / "embedded-qlora.yaml"


def shuffled_copy(source, target, seed):
    """A dataset like source whose learned train texts have the same words in another order, white space as it was."""
    import pyarrow.parquet as pq

    from finetune.contracts.dataset import MANIFEST_NAME, DatasetManifest, Split
    from finetune.contracts.io import digest_file, digest_text, write_json

    generator = random.Random(seed)
    manifest = DatasetManifest.model_validate_json((source / MANIFEST_NAME).read_bytes())
    target.mkdir(parents=True)
    shards = []
    for shard in manifest.shards:
        table = pq.read_table(source / shard.name)
        if shard.split is Split.TRAIN:
            rows = table.to_pylist()
            for row in rows:
                for segment in row["segments"]:
                    if segment["loss"]:
                        segment["text"] = shuffled(segment["text"], generator)
            table = type(table).from_pylist(rows, schema=table.schema)
        pq.write_table(table, target / shard.name)
        shards.append(shard.model_copy(update={"sha256": digest_file(target / shard.name)}))
    lines = "\n".join(shard.sha256 for shard in sorted(shards, key=lambda shard: shard.name))
    write_json(
        target / MANIFEST_NAME,
        manifest.model_copy(update={"shards": tuple(shards), "content_digest": digest_text(lines)}),
    )
    return target


def shuffled(text, generator):
    """The words of text in another order, between the same stretches of white space."""
    words = text.split()
    generator.shuffle(words)
    left = iter(words)
    parts = ("".join(part) for _, part in itertools.groupby(text, str.isspace))
    return "".join(part if part.isspace() else next(left) for part in parts)


def trained(dataset, home, sets):
    """The heldout score of the embedded recipe on dataset, judged on the held-out split of the same rows."""
    from finetune.cli.evaluate import run_evaluation
    from finetune.cli.train import run_training
    from finetune.contracts.evaluation import SuiteName
    from finetune.recipe.load import load_recipe
    from finetune.recipe.resolve import resolve

    state = run_training(resolve(load_recipe(RECIPE, [f"data.dataset={dataset}", *sets])), home)
    return run_evaluation(home, state.run_id, suites=(SuiteName.HELDOUT,)).scores[0]


def null_verdicts(dataset, repeats):
    """What an evaluation says of the base against itself on gaps: each side draws its answers with seeds of its own.

    "not shown" where none of the suite's figures is shown, or else the verdict of the first that is.
    """
    from finetune.contracts.evaluation import PairedRow
    from finetune.evaluate.scores import scores_of

    suite, drawn = drawn_values(dataset, num_draws=2 * repeats)
    for number in range(repeats):
        # draws of its own for each repeat: shared ones would make one lucky draw count again and again
        left, right = drawn[2 * number], drawn[2 * number + 1]
        rows = [
            PairedRow(
                suite=suite.name,
                metric=name,
                task_id=task.id,
                repo=task.repo,
                path=task.path,
                cluster=task.cluster,
                base=left[task.id][name],
                adapter=right[task.id][name],
            )
            for task in suite.tasks
            for name in left[task.id].keys() & right[task.id].keys()
        ]
        whole = [score for score in scores_of(rows, suite.metrics, resamples=2000, seed=number) if not score.part]
        yield next((score.verdict for score in whole if score.verdict != "not shown"), "not shown")


def drawn_values(dataset, num_draws):
    """The infill suite, and for each draw the figures of the base's answers by task and name."""
    from finetune.contracts.adapter import Quantization
    from finetune.evaluate.generate import sampled
    from finetune.evaluate.infill_suite import infill_suite
    from finetune.evaluate.sampling import Sampling
    from finetune.model.loading import load_base
    from finetune.recipe.load import load_recipe
    from finetune.recipe.resolve import resolve
    from finetune.render.dataset import open_dataset
    from finetune.render.rows import Renderer

    recipe = resolve(load_recipe(RECIPE, [f"data.dataset={dataset}"]))
    base = load_base(Path(recipe.base.path), quantization=Quantization.NF4)
    section, tokenizer = recipe.evaluate, base.tokenizer
    suite = infill_suite(open_dataset(dataset), Renderer(tokenizer, base.family, recipe.data.max_tokens), section)
    gaps = suite._gaps.chosen
    stops = frozenset(map(tokenizer.convert_tokens_to_ids, {*base.family.infill_stops, base.family.document_end}))
    draws = []
    for draw in range(num_draws):
        answers = sampled(
            base.model,
            [gap.prompt for gap in gaps],
            sampling=Sampling(temperature=0.8, top_p=0.95),
            seeds=[draw * len(gaps) + place for place in range(len(gaps))],
            stops=stops,
            max_new_tokens=section.max_new_tokens,
            pad_token=0,
            batch_rows=len(gaps),
        )
        texts = [tokenizer.decode(answer, clean_up_tokenization_spaces=False) for answer in answers]
        draws.append({gap.example_id: suite._values(gap, text) for gap, text in zip(gaps, texts, strict=True)})
    return suite, draws


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--null-only", action="store_true")
    args = parser.parse_args()
    from finetune.contracts.run import Home
    from finetune.guard.offline import go_offline

    go_offline()
    home = Home(args.home.absolute())
    if not args.null_only:
        planted(args, home)
    found = list(null_verdicts(args.dataset, args.repeats))
    print(f"base against itself: not shown in {found.count('not shown')} of {len(found)}")
    print(json.dumps({verdict: found.count(verdict) for verdict in sorted(set(found))}))


def planted(args, home):
    """Print the verdicts on both trained adapters."""
    copy = shuffled_copy(args.dataset.absolute(), home.datasets / "shuffled", 0)
    for name, dataset in (("trained on it", args.dataset.absolute()), ("trained on shuffled words", copy)):
        score = trained(dataset, home, args.set)
        print(f"{name}: {score.verdict}, {score.difference:+.3f} bits per byte ({score.low:+.3f} to {score.high:+.3f})")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
