"""docs/families.md, made from the families' own facts. `python -m finetune.cli.families` rewrites it."""

from pathlib import Path

from finetune.families.base import Family
from finetune.families.registry import FAMILIES
from finetune.recipe.capabilities import capability_text, infill_texts

TARGET = Path(__file__).resolve().parents[2] / "docs" / "families.md"
HEAD = """# Model families

Made from the facts under `finetune/families/` by `python -m finetune.cli.families`. Each family is tested on a tiny
random base of its real architecture: what is held in 4 bits, that each target learns, and that the adapter is the same
after it was written and read. The family is found by `model_type` in the base's `config.json`; its special tokens are
found by name in the base's tokenizer, and its chat template must end an answer with the end token of its form.

A preset is a value of `lora.targets`; the first is the default. A base whose checkpoint is multimodal is loaded as its
text class: vision and multi-token prediction stay on the disk.

"""
SIZES = """
## What does not fit

Calculated from the number of parameters in the name, not measured: NF4 with double quantization takes 4.127 bits for
each number, so the weights alone of Qwen3.5-397B-A17B take about 205 GB. No card of up to 192 GB holds them, and 4-bit
weights are not spread over several cards; in 16 bits they take 794 GB, that is twelve cards of 80 GB under FSDP.
Qwen3.5-122B-A10B takes about 63 GB in 4 bits, Qwen3.5-35B-A3B about 20 GB with its embedding and head in 16.
"""


def families_page() -> str:
    """The whole page: one section for each family, then the types that are left out."""
    parts = [HEAD, "| family | bases | presets |\n|---|---|---|\n"]
    parts += [f"| [{family.name}](#{family.name}) | {family.models} | {_presets(family)} |\n" for family in FAMILIES]
    parts += [_section(family) for family in FAMILIES]
    refused = {name: reason for family in FAMILIES for name, reason in family.refused.items()}
    parts.append("\n## Left out\n\n| model type | why |\n|---|---|\n")
    parts += [f"| `{name}` | {reason} |\n" for name, reason in refused.items()]
    return "".join([*parts, SIZES])


def _presets(family: Family) -> str:
    return ", ".join(f"`{preset}`" for preset in family.targets)


def _section(family: Family) -> str:
    rows = [
        ("model types", ", ".join(f"`{name}`" for name in family.model_types)),
        ("16-bit", ", ".join(f"`{name}`" for name in family.keep_16bit)),
        ("infill", "<br>".join(infill_texts(family))),
        ("packing", capability_text(family.packing)),
    ]
    if family.call_forms:
        rows.append(("tool calls", "<br>".join(form.words for form in family.call_forms)))
    if family.mixture is not None:
        rows.append(("experts", capability_text(family.mixture)))
    rows += [(f"{kind} layers", capability_text(refusal)) for kind, refusal in family.untrained.items()]
    lines = "".join(f"| {name} | {text} |\n" for name, text in rows)
    return f"\n## {family.name}\n\n{family.models}.\n\n| | |\n|---|---|\n{lines}"


if __name__ == "__main__":
    from finetune.contracts.io import write_text

    write_text(TARGET, families_page())
