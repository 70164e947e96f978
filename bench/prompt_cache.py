"""Time to the first token of prompts that begin as earlier ones, on the base that comes along.

Each round has a prompt of its own: read anew, the same again, with a turn of 40 tokens more, and edited in the middle,
twice: recurrent states are kept where the first edit parted, so the second goes on from there. The table gives medians
over the rounds, and ratios to the reading anew of the same round.
Run: .venv/bin/python bench/prompt_cache.py [--rounds 5] [--tokens 2000] [--base FOLDER]
"""

import argparse
import asyncio
import random
import statistics
import time
from importlib.resources import files
from pathlib import Path

ROUNDS_BEFORE = 1
TURN_TOKENS = 40


async def first_token(engine, token_ids):
    """Milliseconds to the first token, and how many of the prompt were known."""
    from serving.engines.base import GenerationRequest, Sampling, TokenPrompt

    started = time.perf_counter()
    request = GenerationRequest(TokenPrompt(tuple(token_ids)), Sampling(temperature=0.0, max_tokens=1))
    generation = await engine.generate(request)
    async for _ in generation:
        pass
    return 1000 * (time.perf_counter() - started), generation.num_cached_tokens


def prompts(source, num_tokens):
    """The prompts of one round by name, in the order in which they are asked."""
    ids = [source.randrange(1000, 8000) for _ in range(num_tokens)]
    half = num_tokens // 2
    return {
        "anew": ids,
        "the same again": ids,
        f"with {TURN_TOKENS} tokens more": [*ids, *(source.randrange(1000, 8000) for _ in range(TURN_TOKENS))],
        "edited in the middle": [*ids[:half], 999, *ids[half:]],
        "edited there again": [*ids[:half], 998, *ids[half:]],
    }


async def measure(engine, args):
    """Rows (name, milliseconds, known) of each round."""
    source = random.Random(0)
    rounds = []
    for number in range(args.rounds + ROUNDS_BEFORE):
        asked = prompts(source, args.tokens)
        found = {name: await first_token(engine, token_ids) for name, token_ids in asked.items()}
        if number >= ROUNDS_BEFORE:
            rounds.append(found)
    return rounds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--base", type=Path, default=Path(str(files("finetune.embedded"))) / "base")
    args = parser.parse_args()
    from finetune.guard.offline import go_offline

    go_offline()
    from finetune.contracts.adapter import Quantization
    from serving.engines.transformers import load_engine
    from serving.settings import ServerSettings

    engine = load_engine(args.base, ServerSettings(), quantization=Quantization.NONE)
    try:
        rounds = asyncio.run(measure(engine, args))
    finally:
        engine.close()
    print(
        f"| prompt of {args.tokens} tokens | known | first token, ms | of reading it anew |\n| --- | --: | --: | --: |"
    )
    for name in rounds[0]:
        known = statistics.median(found[name][1] for found in rounds)
        milliseconds = statistics.median(found[name][0] for found in rounds)
        ratio = statistics.median(found[name][0] / found["anew"][0] for found in rounds)
        print(f"| {name} | {known:.0f} | {milliseconds:.1f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
