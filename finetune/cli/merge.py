"""finetune adapter merge: base and adapter as one model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.adapters.merge_check import Judge
    from finetune.contracts.adapter import AdapterManifest
    from finetune.contracts.merge import MergeCheck, MergeManifest
    from finetune.contracts.run import Home

EXAMPLES = (
    "Examples: `finetune adapter merge ours-1f0c9a2b3d4e --base /models/Qwen3.6-27B --out /models/ours`, "
    "`finetune adapter merge ours --base /models/Qwen3.6-27B --out /models/ours --dataset .finetune/datasets/ours`."
)


def merge(
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="An adapter's id or folder, or the run that made it.")
    ],
    base: Annotated[Path, typer.Option(help="Folder of the base that it was trained on, in 16 bits.")],
    out: Annotated[Path, typer.Option(help="New folder that receives the merged model.")],
    dataset: Annotated[
        Path | None,
        typer.Option(help="Make both forms of the merge and keep what scores better on this dataset's held-out rows."),
    ] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Add an adapter to its base's own files: a whole model; tensors that it does not change stay as they are."""
    from finetune.adapters.find import find_usable
    from finetune.adapters.merge import merge_adapter
    from finetune.contracts.adapter_files import read_adapter
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit
    from finetune.terminal.signals import interrupted_by_signals

    place = Home(home.absolute())
    folder = find_usable(place, adapter)
    judge = _judge(place, read_adapter(folder), base=base, dataset=dataset) if dataset else None
    with interrupted_by_signals():
        merged = merge_adapter(folder, base, out=out, judge=judge)
    document = {"folder": str(out.absolute()), **merged.model_dump(mode="json")}
    emit(document, as_json=json, text=_text(merged, out))


def _judge(home: "Home", manifest: "AdapterManifest", *, base: Path, dataset: Path) -> "Judge":
    """Rows as `finetune evaluate` takes them for the adapter's run; as the defaults say where the run is not here."""
    from finetune.contracts.errors import RunError
    from finetune.evaluate.judge import heldout_judge
    from finetune.recipe.schema import DataSection, EvaluateSection
    from finetune.train.run_folder import run_recipe

    try:
        resolved = run_recipe(home, manifest.run_id)
        section, max_tokens = resolved.evaluate, resolved.data.max_tokens
    except RunError:
        section, max_tokens = EvaluateSection(), DataSection().max_tokens
    return heldout_judge(base, dataset, model_type=manifest.base.model_type, section=section, max_tokens=max_tokens)


def _text(merged: "MergeManifest", out: Path) -> str:
    from finetune.terminal.output import table

    rows = [
        ("merged model", str(out)),
        ("adapter", merged.adapter_id),
        ("merged into", merged.kept.words),
        ("because", merged.reason),
        ("tensors changed", f"{merged.num_changed:,}"),
        ("as in the base", f"{merged.num_kept:,}"),
        ("read back", _check_text(merged.chosen.check)),
    ]
    if merged.left_out:
        rows.append(("left out", ", ".join(merged.left_out)))
    return table(rows)


def _check_text(check: "MergeCheck | None") -> str:
    if check is None:
        return "not done: no room in memory"
    weak = ", too little to tell it from the base" if check.is_weak else ""
    return f"{check.worst:.3f} nat off at most on the reference text; the adapter moves it by {check.effect:.3f}{weak}"
