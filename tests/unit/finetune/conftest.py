"""Tiny random bases, of the family qwen3_5 or another, with a byte tokenizer, in a folder as a user would have it."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.dataset import (
    CountRow,
    DatasetManifest,
    Example,
    Provenance,
    Role,
    Segment,
    Shard,
    Split,
    SplitRecord,
    Task,
)
from finetune.contracts.io import digest_file, digest_text, write_json
from finetune.contracts.run import Home
from finetune.families.base import Family
from finetune.families.registry import FAMILIES
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import ResolvedRecipe, resolve
from finetune.tracking.base import RunCard, RunStatus

CONFIGS = Path(__file__).parents[2] / "assets" / "families"
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<think>",
    "</think>",
)


def save_byte_tokenizer(
    folder: Path, special: Sequence[str] = SPECIAL, *, template: str = CHAT_TEMPLATE, end: str = SPECIAL[0]
) -> None:
    """A tokenizer with one token per byte and the special tokens, of which end ends a text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    # As in the published tokenizers: only these three are special, so "special tokens off" does not cover the others
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special[:3]])
    inner.add_tokens([AddedToken(name, special=False, normalized=False) for name in special[3:]])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end, pad_token=end)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def save_tiny_base(folder: Path, seed: int = 0) -> Path:
    """Random weights of the tiny qwen3_5 configuration, with its tokenizer."""
    save_tiny_weights(folder, json.loads((CONFIGS / "qwen3_5.json").read_text()), seed=seed)
    save_byte_tokenizer(folder)
    return folder


def save_tiny_weights(folder: Path, config: Mapping[str, Any], *, seed: int = 0) -> None:
    """Random weights of the text class that the installed library has for config."""
    import torch

    from finetune.model.quiet import quiet_libraries

    with quiet_libraries():
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
        model.to(torch.bfloat16).save_pretrained(folder)


def plain_template(family: Family) -> str:
    """A chat template in the family's own tokens: <start>role, content <end>."""
    start, end = family.tokens.turn_start or "", family.turn_end
    return (
        "{%- for message in messages %}{{- '" + start + "' + message.role + '\\n' + message.content | trim + '" + end
        + "\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '" + start + "assistant\\n' }}{%- endif %}"
    )  # fmt: skip


@pytest.fixture(scope="session")
def family_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Read-only: the folder of a tiny base of the named family, made once."""

    @cache
    def make(name: str) -> Path:
        return save_family_base(tmp_path_factory.mktemp("families") / name)

    return make


def save_family_base(folder: Path, *, seed: int = 0) -> Path:
    """A tiny base of the family that the folder is named for."""
    (family,) = (family for family in FAMILIES if family.name == folder.name)
    save_tiny_weights(folder, json.loads((CONFIGS / f"{folder.name}.json").read_text()), seed=seed)
    save_byte_tokenizer(folder, family.tokens.names(), template=plain_template(family), end=family.document_end)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: copy the folder before changing it."""
    return save_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


LEARNED = (Role.TARGET, Role.ANSWER)
PROVENANCE = Provenance(
    repo="shop",
    commit="c" * 40,
    path="shop/cart.py",
    blob="b" * 40,
    first_line=1,
    last_line=9,
    author="a1",
    committed_at=1_700_000_000,
)


def build_example(task: Task, segments: Sequence[tuple[Role, str]], *, split: Split = Split.TRAIN) -> Example:
    """An example of task with (role, text) segments; its id is a digest of them."""
    return Example(
        id=digest_text(repr((task, segments)))[:16],
        task=task,
        language="python",
        stratum="block" if task is Task.INFILL else "",
        segments=tuple(
            Segment(role=role, text=text, path="shop/cart.py", loss=role in LEARNED) for role, text in segments
        ),
        provenance=(PROVENANCE,),
        split=split,
        cluster=digest_text(repr(segments))[:8],
        redactions=0,
        visibility="internal",
    )


def save_dataset(folder: Path, examples: Sequence[Example]) -> Path:
    """Write examples as the data pipeline would: Parquet shards by split, then the manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    shards = []
    for split in Split:
        rows = [example.model_dump(mode="json") for example in examples if example.split is split]
        if rows:
            path = folder / f"{split}-00000.parquet"
            pq.write_table(pa.Table.from_pylist(rows), path)
            shards.append(Shard(name=path.name, split=split, examples=len(rows), sha256=digest_file(path)))
    manifest = DatasetManifest(
        content_digest=digest_text("\n".join(shard.sha256 for shard in sorted(shards, key=lambda shard: shard.name))),
        builder="test",
        sources=(),
        settings="{}",
        settings_digest=digest_text("{}"),
        split=SplitRecord(method="cluster", cutoff_at=None, train_files=1, heldout_files=1, purged=0),
        shards=tuple(shards),
        counts=tuple(
            CountRow(task=task, split=split, language="python", examples=count, loss_bytes=0)
            for task in Task
            for split in Split
            if (count := sum(example.task is task and example.split is split for example in examples))
        ),
        dropped=(),
        redacted=(),
    )
    write_json(folder / "manifest.json", manifest)
    return folder


def mixed_examples(num_each: int) -> list[Example]:
    """Rows of every task in both splits, all different."""
    rows = []
    for split in Split:
        for index in range(num_each):
            name = f"{split}_{index}"
            head = f"def add_{name}(a, b):\n"
            rows += [
                build_example(
                    Task.INFILL,
                    [(Role.PREFIX, head), (Role.SUFFIX, "\n\n"), (Role.TARGET, f"    return a + b + {index}")],
                    split=split,
                ),
                build_example(
                    Task.DOCSTRING,
                    [(Role.INSTRUCTION, head + f'    """Add {index}."""'), (Role.ANSWER, head + "    return a + b")],
                    split=split,
                ),
                build_example(Task.PRETRAIN, [(Role.TARGET, head + f"    return {index}\n")], split=split),
            ]
    return rows


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: the tiny configuration with other weights."""
    return save_tiny_base(tmp_path_factory.mktemp("bases") / "other", seed=5)


@pytest.fixture(scope="session")
def make_example() -> Callable[..., Example]:
    return build_example


@pytest.fixture(scope="session")
def make_dataset() -> Callable[[Path, Sequence[Example]], Path]:
    return save_dataset


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read-only: 24 train and 24 held-out rows of three tasks."""
    return save_dataset(tmp_path_factory.mktemp("datasets") / "tiny", mixed_examples(8))


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_base: Path) -> object:
    from finetune.model.loading import load_tokenizer

    return load_tokenizer(tiny_base)


class FakeTracker:
    """A Tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.card: RunCard | None = None
        self.resumed: str | None = None
        self.points: list[tuple[int, dict[str, float]]] = []
        self.artifacts: list[tuple[str, str]] = []
        self.dataset_digest = ""
        self.description = ""
        self.tags: dict[str, str] = {}
        self.registered: list[tuple[str, str]] = []
        self.status: str | None = None

    def start(self, card: RunCard, *, resume: str | None = None) -> str:
        self.card, self.resumed = card, resume
        return resume or "tracked-1"

    def dataset(self, manifest: DatasetManifest, folder: Path) -> None:
        self.dataset_digest = manifest.content_digest

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.points.append((step, dict(values)))

    def artifact(self, path: Path, folder: str = "") -> None:
        assert path.exists()
        self.artifacts.append((path.name, folder))

    def tag(self, values: Mapping[str, str]) -> None:
        self.tags |= values

    def describe(self, markdown: str) -> None:
        self.description = markdown

    def register(self, manifest: AdapterManifest, folder: Path, name: str) -> None:
        assert folder.is_dir()
        self.registered.append((manifest.adapter_id, name))

    def finish(self, status: RunStatus) -> None:
        self.status = status

    def values(self, name: str) -> list[tuple[int, float]]:
        """Every (step, value) of one metric."""
        return [(step, values[name]) for step, values in self.points if name in values]


@pytest.fixture
def tracker() -> FakeTracker:
    return FakeTracker()


TINY_RECIPE = """
name: tiny
base: {path: BASE}
data: {dataset: DATASET, max_tokens: 256}
lora: {rank: 4, targets: attention+mlp+linear_attention}
train:
  micro_batch: 2
  accumulation: 2
  max_steps: 4
  learning_rate: 5e-3
  optimizer: adamw
  activation_checkpointing: false
  save_every_steps: 2
  log_every_steps: 1
"""


def write_tiny_recipe(folder: Path, base: Path, dataset: Path) -> Path:
    """The tiny recipe as a file in folder."""
    path = folder / "tiny.yaml"
    path.write_text(TINY_RECIPE.replace("BASE", str(base)).replace("DATASET", str(dataset)))
    return path


@pytest.fixture(scope="session")
def trained_home(tiny_base: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Read-only: a home with one finished run of the tiny recipe and its published adapter."""
    from finetune.train.sft import train

    folder = tmp_path_factory.mktemp("trained")
    home = Home(folder / "home")
    train(resolve(load_recipe(write_tiny_recipe(folder, tiny_base, tiny_dataset))), home, FakeTracker())
    return home


@pytest.fixture
def resolved_tiny(tiny_base: Path, tiny_dataset: Path, tmp_path: Path) -> Callable[..., ResolvedRecipe]:
    """A resolved recipe over the tiny base and dataset; arguments are --set texts."""

    def build(*overrides: str) -> ResolvedRecipe:
        return resolve(load_recipe(write_tiny_recipe(tmp_path, tiny_base, tiny_dataset), overrides))

    return build


@pytest.fixture(scope="session")
def resolved_shared(
    tiny_base: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., ResolvedRecipe]:
    """As resolved_tiny, for what outlives a test."""
    path = write_tiny_recipe(tmp_path_factory.mktemp("recipes"), tiny_base, tiny_dataset)

    def build(*overrides: str) -> ResolvedRecipe:
        return resolve(load_recipe(path, overrides))

    return build
