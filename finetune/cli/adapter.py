"""finetune adapter: what came out of runs, and whether it is what it says."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.contracts.adapter import AdapterManifest

app = typer.Typer(help="Adapters: list, inspect, verify, export.", no_args_is_help=True, rich_markup_mode=None)
Which = Annotated[str, typer.Argument(metavar="ADAPTER", help="An adapter's id or folder, or the run that made it.")]


@app.command("list", epilog="Examples: `finetune adapter list`, `finetune adapter list --home /srv/finetune --json`.")
def list_(home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """List the adapters of a home with their scores."""
    from finetune.adapters.verify import list_adapters
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, table

    manifests = list_adapters(Home(home.absolute()))
    rows = [(found.adapter_id, found.base.name, str(found.rank), _verdict(found), found.run_id) for found in manifests]
    emit(
        {"adapters": [found.model_dump(mode="json", exclude={"probe", "files"}) for found in manifests]},
        as_json=json,
        text=table(rows, header=("adapter", "base", "rank", "verdict", "run")) if rows else f"No adapters in {home}.",
    )


@app.command(
    "inspect",
    epilog="Examples: `finetune adapter inspect embedded-1f0c9a2b3d4e`, `finetune adapter inspect ./adapter --json`.",
)
def inspect(adapter: Which, home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """Show what an adapter is: base, digests, targets, scores."""
    from finetune.adapters.verify import find_adapter
    from finetune.contracts.adapter_files import read_adapter
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, table

    manifest = read_adapter(find_adapter(Home(home.absolute()), adapter))
    text = table(_facts(manifest))
    if manifest.scores:
        rows = [
            (score.name, score.unit, f"{score.base:.3f}", f"{score.adapter:.3f}", score.verdict)
            for score in manifest.scores
        ]
        text += "\n\n" + table(rows, header=("figure", "unit", "base", "adapter", "verdict"))
    emit(manifest.model_dump(mode="json"), as_json=json, text=text)


@app.command(
    "verify",
    epilog="Examples: `finetune adapter verify embedded-1f0c9a2b3d4e`, "
    "`finetune adapter verify ./adapter --base /models/Qwen3.6-27B`.",
)
def verify(
    adapter: Which,
    base: Annotated[Path | None, typer.Option(help="Check that it was made for the base in this folder, too.")] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Check every file of an adapter against its manifest. Exit code 3 when one differs."""
    from finetune.adapters.verify import find_adapter, verify_adapter
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit

    folder = find_adapter(Home(home.absolute()), adapter)
    manifest = verify_adapter(folder, base)
    also = f" and made for {manifest.base.name} in {base}" if base else ""
    emit(
        {"adapter": manifest.adapter_id, "folder": str(folder), "valid": True},
        as_json=json,
        text=f"{manifest.adapter_id} is whole: {len(manifest.files)} files as its manifest says{also}.",
    )


@app.command(
    "export",
    epilog="Examples: `finetune adapter export embedded-1f0c9a2b3d4e --out /srv/handover`, "
    "`finetune adapter export embedded-20260102-101500-3f2a --out ./adapter --json`.",
)
def export(
    adapter: Which,
    out: Annotated[Path, typer.Option(help="New folder that receives the adapter.")],
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Copy a verified adapter, whole, to a new folder."""
    from finetune.adapters.export import copy_adapter
    from finetune.adapters.verify import find_adapter
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit

    manifest = copy_adapter(find_adapter(Home(home.absolute()), adapter), out)
    emit(
        {"adapter": manifest.adapter_id, "folder": str(out.absolute())},
        as_json=json,
        text=f"{manifest.adapter_id} is in {out}.",
    )


def _verdict(manifest: "AdapterManifest") -> str:
    return manifest.scores[0].verdict if manifest.scores else "not evaluated"


def _facts(manifest: "AdapterManifest") -> list[tuple[str, str]]:
    digests = manifest.digests
    return [
        ("adapter", manifest.adapter_id),
        ("run", manifest.run_id),
        ("step of training", "" if manifest.step is None else f"{manifest.step:,}"),
        ("base", f"{manifest.base.name} ({manifest.base.model_type}), {manifest.base.digest[:12]}"),
        ("rank, alpha", f"{manifest.rank}, {manifest.alpha:g}"),
        ("targets", ", ".join(manifest.targets)),
        ("layer kinds", ", ".join(manifest.layer_kinds)),
        ("quantization", manifest.quantization.value),
        ("dataset", digests.dataset[:12]),
        ("recipe", digests.recipe[:12]),
        ("weights", digests.weights[:12]),
        ("visibility", ", ".join(manifest.visibility) or "not stated"),
    ]
