"""What a run's record says before the first step: flat parameters, the dataset's profile, the environment."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

import finetune
from finetune.contracts.dataset import REPORT_NAME, DatasetManifest, Split
from finetune.recipe.resolve import ResolvedRecipe, base_folder
from finetune.recipe.schema import EMBEDDED_BASE
from finetune.tracking.base import RunCard

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
    "mlflow",
)
# The rest is in environment.txt: a page full of versions hides the few that explain a difference.
SHOWN_AS_TAGS = ("python", "processor", "memory", "gpu", "torch", "transformers", "peft", "trl", "bitsandbytes")
SOURCE_TAGS = {"mlflow.source.name": "finetune train", "mlflow.source.type": "LOCAL"}
GIT_SECONDS = 5.0
# where a run's artifacts hold what is known of its dataset
DATASET_FOLDER = "dataset"
DATA_REPORT = f"{DATASET_FOLDER}/{REPORT_NAME}"


def run_card(run_id: str, resolved: ResolvedRecipe) -> RunCard:
    """The card of a run: each value of the resolved recipe as a dotted parameter, its digest and the code's commit."""
    tags = {"recipe_digest": resolved.digest()[:12], **SOURCE_TAGS}
    commit = code_commit()
    if commit:
        tags |= {"git_commit": commit, "mlflow.source.git.commit": commit}
    parameters = {row.key: _parameter(json.loads(row.value)) for row in resolved.origins}
    if resolved.base.path == str(base_folder(EMBEDDED_BASE)):
        parameters["base.path"] = EMBEDDED_BASE
    return RunCard(
        run_id=run_id,
        experiment=resolved.track.experiment,
        recipe_name=resolved.name,
        parameters=parameters,
        tags=tags,
    )


def _parameter(value: JsonValue) -> str:
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    return short_path(value) if isinstance(value, str) else json.dumps(value)


def short_path(text: str) -> str:
    """text with the user's home folder written as ~, since a record that is shown to others names no user."""
    home = os.path.expanduser("~").rstrip("/")
    return "~" + text[len(home) :] if home and text.startswith(home + "/") else text


def code_commit() -> str | None:
    """Commit of the source tree that this code runs from; None for an installed package or without git."""
    root = Path(finetune.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(root), "rev-parse", "HEAD"]
    try:
        # git is looked up on PATH: it has no fixed place
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def environment_text() -> str:
    """What the run ran on, a line each: versions, platform, processor, memory, GPU; no host or user names."""
    return "\n".join(f"{name}: {value}" for name, value in _environment()) + "\n"


def environment_tags() -> dict[str, str]:
    """What explains most differences between runs, as tags such as environment.torch, and this product's version."""
    shown = {f"environment.{name}": value for name, value in _environment() if name in SHOWN_AS_TAGS}
    return {"finetune_version": finetune.__version__, **shown}


def _environment() -> Iterator[tuple[str, str]]:
    yield "finetune", finetune.__version__
    yield "python", platform.python_version()
    yield "platform", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "processor", f"{_processor()}, {os.cpu_count()} threads"
    yield "memory", _memory()
    # torch is asked only if the process has it already: importing it costs seconds
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        yield "gpu", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
    else:
        yield "gpu", "none"
    for name in LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (OSError, ValueError):
        return "unknown"


def dataset_name(manifest: DatasetManifest) -> str:
    """The dataset as a person names it: its repositories, at most three by name."""
    names = [Path(source.repo).name or source.repo for source in manifest.sources]
    return " + ".join(names[:3]) + (f" + {len(names) - 3} more" if len(names) > 3 else "") or "dataset"


def dataset_profile(manifest: DatasetManifest) -> dict[str, JsonValue]:
    """Counts of the dataset by split and task, how it was divided, and what was left out."""
    return {
        "train_examples": manifest.num_examples(Split.TRAIN),
        "heldout_examples": manifest.num_examples(Split.HELDOUT),
        "train_loss_bytes": _loss_bytes(manifest, Split.TRAIN),
        "heldout_loss_bytes": _loss_bytes(manifest, Split.HELDOUT),
        "split_method": manifest.split.method,
        "train_files": manifest.split.train_files,
        "heldout_files": manifest.split.heldout_files,
        "dropped": sum(row.count for row in manifest.dropped),
        "redacted": sum(row.count for row in manifest.redacted),
        **{f"{split.value} {task}": count for split in Split for task, count in _by_task(manifest, split).items()},
    }


def dataset_source(manifest: DatasetManifest, folder: Path) -> dict[str, JsonValue]:
    """Where the dataset lies, and the commit each repository was read at."""
    return {
        "folder": short_path(str(folder)),
        "repositories": [
            {"repository": source.repo, "ref": source.ref, "commit": source.commit} for source in manifest.sources
        ],
    }


def _by_task(manifest: DatasetManifest, split: Split) -> dict[str, int]:
    tasks = sorted({row.task for row in manifest.counts if row.split == split})
    return {task.value: manifest.num_examples(split, task) for task in tasks}


def _loss_bytes(manifest: DatasetManifest, split: Split) -> int:
    return sum(row.loss_bytes for row in manifest.counts if row.split == split)
