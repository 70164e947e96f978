"""Tokens a second with many adapters in one batch, and what a load costs, beside PEFT and the library's generate.

A base of random weights of about 150M parameters (Qwen3, 12 layers of 1,024) and adapters of rank 16 on all its maps
(15 MB each) are made in a scratch folder. All cases take turns in one process; the table gives medians over the rounds
and ratios to the base alone of the same round.
Run: .venv/bin/python bench/serve.py [--rounds 3] [--tokens 32] [--dtype float32]
"""

import argparse
import statistics
import time

import torch

CONFIG = {
    "vocab_size": 8192,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "tie_word_embeddings": True,
}
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK, PROMPT_TOKENS, STREAMS = 16, 32, 8


class Row:
    """A stream that is decoded greedily."""

    def __init__(self, slot):
        self.slot = slot
        self.next_token = 0


def build(dtype):
    """The base and its state of random factors for one adapter after the other."""
    from finetune.model.quiet import quiet_libraries

    with quiet_libraries():
        from transformers import Qwen3Config, Qwen3ForCausalLM

        torch.manual_seed(0)
        return Qwen3ForCausalLM(Qwen3Config(**CONFIG)).to(dtype).eval()


def factors(slots, seed):
    """Random factors on all maps, as read from a file."""
    from serving.engines.slots import LinearFactors

    source = torch.Generator().manual_seed(seed)
    found = {}
    for name in slots.names(TARGETS):
        size_in, size_out = slots.size_of(name)
        a = torch.randn(RANK, size_in, generator=source) * 0.02
        found[name] = LinearFactors(a, torch.randn(RANK, size_out, generator=source) * 0.02)
    return found


@torch.inference_mode()
def decode(model, slots, wanted, num_tokens):
    """Tokens a second of one stream for each of wanted, in steps together; prompts are read before the clock starts."""
    from serving.engines.batch import Batch, PromptReader

    batch = Batch(model, slots, device="cpu")
    for number, slot in enumerate(wanted):
        reader = PromptReader(model, [(7 * number + place) % 8000 for place in range(PROMPT_TOKENS)], device="cpu")
        slots.select([slot])
        row = Row(slot)
        row.next_token = int(reader.read(PROMPT_TOKENS).argmax())
        batch.join(row, reader.cache, num_tokens=PROMPT_TOKENS)
    started = time.perf_counter()
    for _ in range(num_tokens):
        for row, token in zip(batch.rows, batch.step().argmax(-1).tolist(), strict=True):
            row.next_token = token
    return num_tokens * len(wanted) / (time.perf_counter() - started)


@torch.inference_mode()
def generate(model, num_streams, num_tokens, **options):
    """The same by the library's generate, its reading of the prompts taken off."""
    ids = torch.tensor([[(7 * n + place) % 8000 for place in range(PROMPT_TOKENS)] for n in range(num_streams)])
    seconds = []
    for length in (1, num_tokens + 1):
        started = time.perf_counter()
        model.generate(ids, max_new_tokens=length, min_new_tokens=length, do_sample=False, pad_token_id=0, **options)
        seconds.append(time.perf_counter() - started)
    return num_tokens * num_streams / (seconds[1] - seconds[0])


def under_peft(model, num_adapters):
    """A copy of the base with random adapters under PEFT."""
    from copy import deepcopy

    from finetune.model.quiet import quiet_libraries

    with quiet_libraries():
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS), init_lora_weights=False)
        wrapped = get_peft_model(deepcopy(model), config, adapter_name="a0")
        for number in range(1, num_adapters):
            wrapped.add_adapter(f"a{number}", config)
    return wrapped.eval()


def load_milliseconds(slots, seed):
    """How long the model's thread is held by a load, the reading and checking aside."""
    given = factors(slots, seed)
    started = time.perf_counter()
    slots.load(f"new{seed}", given)
    seconds = time.perf_counter() - started
    slots.free(f"new{seed}")
    return 1000 * seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    from finetune.guard.offline import go_offline

    go_offline()
    from serving.engines.slots import AdapterSlots

    model = build(getattr(torch, args.dtype))
    wrapped = under_peft(model, STREAMS)
    slots = AdapterSlots(model)
    for number in range(STREAMS):
        slots.load(f"s{number}", factors(slots, number))

    def over(count):
        return decode(model, slots, [f"s{number % count}" for number in range(STREAMS)], args.tokens)

    def peft_over(count):
        return generate(wrapped, STREAMS, args.tokens, adapter_names=[f"a{n % count}" for n in range(STREAMS)])

    def generated(count):
        slots.select([])
        return generate(model, count, args.tokens)

    cases = {
        "base alone, 8 streams": lambda: decode(model, slots, [None] * STREAMS, args.tokens),
        "1 adapter": lambda: over(1),
        "4 adapters": lambda: over(4),
        "8 adapters": lambda: over(8),
        "PEFT's mixed batch, 4 adapters": lambda: peft_over(4),
        "PEFT's mixed batch, 8 adapters": lambda: peft_over(8),
        "generate, 8 streams": lambda: generated(STREAMS),
        "generate, 1 stream": lambda: generated(1),
        "base alone, 1 stream": lambda: decode(model, slots, [None], args.tokens),
    }
    found = {name: [] for name in cases}
    loads = []
    for number in range(args.rounds + 1):
        for name, case in cases.items():
            speed = case()
            if number:
                found[name].append(speed)
        loads.append(load_milliseconds(slots, 100 + number))
    print("| case | tokens/s | of the base alone, 8 streams |\n| --- | --: | --: |")
    for name, speeds in found.items():
        ratio = statistics.median(a / b for a, b in zip(speeds, found["base alone, 8 streams"], strict=True))
        print(f"| {name} | {statistics.median(speeds):.0f} | {ratio:.2f} |")
    alone = statistics.median(
        a / b for a, b in zip(found["base alone, 1 stream"], found["generate, 1 stream"], strict=True)
    )
    print(f"\nOne stream: {alone:.2f} of generate. A load holds the model {statistics.median(loads):.1f} ms.")


if __name__ == "__main__":
    main()
