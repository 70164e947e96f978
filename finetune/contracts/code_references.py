"""What in a model's configuration would make a library load code: found before any library reads the file."""

import json
from collections.abc import Iterator
from pathlib import Path

from finetune.contracts.errors import InputError

# Keys that name a module, or a class in a file of the folder
NAMES_OF_CODE = frozenset({"auto_map", "auto_mapping", "custom_generate", "custom_pipelines"})
# Keys that switch such code, or compiled code from the hub, on
SWITCHES_OF_CODE = frozenset({"trust_remote_code", "use_kernels", "use_hub_kernels"})
KERNELS = frozenset({"kernel_config", "kernel_mapping", "hub_kernels"})
# attn_implementation, _experts_implementation_internal and their like: a name with a slash is fetched from the hub
IMPLEMENTATION_ENDINGS = ("_implementation", "_implementation_internal")
# nf4_with_experts is this project's own, in its 4-bit copies
IMPLEMENTATIONS = frozenset(
    {
        *("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3"),
        *("batched_mm", "grouped_mm", "nf4_with_experts"),
    }
)
QUANTIZATION = "quantization_config"
# Loaders of other methods fetch kernels from the hub, or import packages that this project does not install
QUANTIZATION_METHODS = frozenset({"bitsandbytes", "nf4_with_experts"})
# They hold tens of megabytes of vocabulary, and no library takes code from them
PLAIN_FILES = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json"})
INDEX_ENDING = ".index.json"
SHOWN_CHARACTERS = 80
HINT = (
    "Use a base of a family in docs/families.md as it was published; or take the field out, if you know that the model "
    "works without it."
)


def refuse_code(folder: Path, *, error: type[InputError]) -> None:
    """Raise error, naming file and field, when a JSON file of a model's folder refers to code, or cannot be read."""
    for path in sorted(folder.glob("*.json")):
        if path.name not in PLAIN_FILES and not path.name.endswith(INDEX_ENDING):
            refuse_code_in(path, error=error)


def refuse_code_in(path: Path, *, error: type[InputError], hint: str = HINT) -> None:
    """Raise error, naming the field, when a JSON file refers to code, or cannot be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"{path} is damaged: {cause}.", "Copy it again from where it came.") from cause
    for field, reason in code_references(document):
        raise error(f"{path}: {field} {reason}; no code that comes with a model is run.", hint)


def code_references(document: object) -> Iterator[tuple[str, str]]:
    """(dotted field, why) of each reference to code in a JSON document, at any depth."""
    waiting: list[tuple[str, object]] = [("", document)]
    while waiting:
        above, value = waiting.pop()
        if isinstance(value, list):
            waiting += [(f"{above}[{place}]", item) for place, item in enumerate(value)]
        if not isinstance(value, dict):
            continue
        for key, item in value.items():
            field = f"{above}.{key}" if above else str(key)
            reason = _reason(str(key), item)
            if reason:
                yield field, reason
            else:
                waiting.append((field, item))


def _reason(key: str, value: object) -> str:
    if key in NAMES_OF_CODE and value:
        return "names code that would be imported"
    if key in SWITCHES_OF_CODE and value:
        return "asks for code to be trusted"
    if key in KERNELS and value:
        return "names compiled code of the hub"
    if key.endswith(IMPLEMENTATION_ENDINGS):
        unknown = [name for name in _names(value) if name not in IMPLEMENTATIONS]
        return f"is {unknown[0]}, which is no implementation that is known here" if unknown else ""
    if key == QUANTIZATION and isinstance(value, dict):
        method = value.get("quant_method")
        known = method is None or (isinstance(method, str) and method in QUANTIZATION_METHODS)
        return "" if known else f"has the method {_shown(method)}, whose loader may fetch code"
    return ""


def _names(value: object) -> list[str]:
    """Names of implementations: one, or one for each part of a model."""
    parts = value.values() if isinstance(value, dict) else [value]
    return [_shown(part) for part in parts if part is not None]


def _shown(value: object) -> str:
    """A name as it can be printed; of anything else its kind, which no list names."""
    return value[:SHOWN_CHARACTERS] if isinstance(value, str) else f"a {type(value).__name__}"
