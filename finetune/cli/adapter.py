"""finetune adapter: what came out of runs, and whether it is what it says."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import finetune.cli.bom
import finetune.cli.merge
import finetune.cli.release
import finetune.cli.sign
from finetune.contracts.export_format import ExportFormat
from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.contracts.adapter import AdapterManifest
    from finetune.contracts.run import Home

app = typer.Typer(
    help="Adapters: list, inspect, verify, sign, export, bom, merge, promote, roll back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Which = Annotated[str, typer.Argument(metavar="ADAPTER", help="An adapter's id or folder, or the run that made it.")]


@app.command("list", epilog="Examples: `finetune adapter list`, `finetune adapter list --home /srv/finetune --json`.")
def list_(home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """List the adapters of a home with their scores."""
    from finetune.adapters.verify import list_adapters
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, table

    place = Home(home.absolute())
    manifests, live = list_adapters(place), _live(place)
    withdrawn = {found.adapter_id: _withdrawn(place, found) for found in manifests}
    rows = [
        (
            found.adapter_id,
            found.base.name,
            str(found.rank),
            _verdict(found),
            ", ".join(found.visibility) or "not stated",
            "withdrawn" if withdrawn[found.adapter_id] else ", ".join(live.get(found.adapter_id, ())),
            found.run_id,
        )
        for found in manifests
    ]
    emit(
        {
            "adapters": [
                {
                    **found.model_dump(mode="json", exclude={"probe", "files"}),
                    "live": ", ".join(live.get(found.adapter_id, ())),
                    "withdrawn": withdrawn[found.adapter_id],
                }
                for found in manifests
            ]
        },
        as_json=json,
        text=table(rows, header=("adapter", "base", "rank", "verdict", "visible to", "live as", "run"))
        if rows
        else f"No adapters in {home}.",
    )


@app.command(
    "inspect",
    epilog="Examples: `finetune adapter inspect embedded-1f0c9a2b3d4e`, `finetune adapter inspect ./adapter --json`.",
)
def inspect(adapter: Which, home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """Show what an adapter is: base, digests, targets, scores, where it is live and whether it was withdrawn."""
    from finetune.adapters.verify import find_adapter
    from finetune.contracts.adapter import whole_scores
    from finetune.contracts.adapter_files import read_adapter
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, printable, table

    place = Home(home.absolute())
    manifest = read_adapter(find_adapter(place, adapter))
    live, withdrawn = ", ".join(_live(place).get(manifest.adapter_id, ())), _withdrawn(place, manifest)
    state = [("live as", live or "not live"), ("withdrawn", printable(withdrawn) or "no")]
    text = table([*_facts(manifest), *state])
    if manifest.scores:
        rows = [
            (score.name, score.unit, f"{score.base:.3f}", f"{score.adapter:.3f}", score.verdict)
            for score in whole_scores(manifest.scores)
        ]
        text += "\n\n" + table(rows, header=("figure", "unit", "base", "adapter", "verdict"))
    document = {**manifest.model_dump(mode="json"), "live": live, "withdrawn": withdrawn}
    emit(document, as_json=json, text=text)


@app.command(
    "verify",
    epilog="Examples: `finetune adapter verify embedded-1f0c9a2b3d4e`, "
    "`finetune adapter verify ./adapter --base /models/Qwen3.6-27B --trust release.pem`, "
    "`finetune adapter verify /models/ours`.",
)
def verify(
    adapter: Annotated[
        str,
        typer.Argument(
            metavar="ADAPTER|MERGED", help="An adapter's id, folder or run, or the folder of a merged model."
        ),
    ],
    base: Annotated[Path | None, typer.Option(help="Check that it was made for the base in this folder, too.")] = None,
    embedding_on_host: Annotated[
        bool, typer.Option("--embedding-on-host", help="Keep the base's embedding in host memory. GPU only.")
    ] = False,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY.pem|POLICY.yaml", help="Who must have signed it. None: by trust.yaml of the home, if there."
        ),
    ] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Check every file of an adapter or a merged model against its manifest. Exit code 3 when one differs.

    With --base, and always for a merged model, the reference text is scored again by what the files hold.
    """
    from finetune.adapters.verify import find_adapter, verify_adapter
    from finetune.contracts.merge import MERGE_MANIFEST_NAME
    from finetune.contracts.run import Home
    from finetune.contracts.trust import TrustFile, check_trusted
    from finetune.terminal.output import emit

    if (Path(adapter) / MERGE_MANIFEST_NAME).is_file():
        _verify_merged(Path(adapter), base, trust, json=json)
        return
    place = Home(home.absolute())
    folder = find_adapter(place, adapter)
    manifest = verify_adapter(folder, base, copies=place.bases, embedding_on_host=embedding_on_host)
    signer = check_trusted(TrustFile(trust or place.trust, required=trust is not None), folder, manifest)
    also = f" and made for {manifest.base.name} in {base}" if base else ""
    signed = f" It is signed with the key {signer}." if signer else ""
    emit(
        {"adapter": manifest.adapter_id, "folder": str(folder), "valid": True, "signer": signer},
        as_json=json,
        text=f"{manifest.adapter_id} is whole: {len(manifest.files)} files as its manifest says{also}.{signed}",
    )


@app.command(
    "export",
    epilog="Examples: `finetune adapter export embedded-1f0c9a2b3d4e --out /srv/handover`, "
    "`finetune adapter export ours --out ./ours-vllm --format peft-multimodal --base /models/Qwen3.6-27B`.",
)
def export(
    adapter: Which,
    out: Annotated[Path, typer.Option(help="New folder that receives the adapter.")],
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="peft-multimodal: for engines that load the multimodal class; gguf: for llama.cpp.",
        ),
    ] = ExportFormat.PEFT,
    base: Annotated[
        Path | None,
        typer.Option(help="Score what was written over this base, against training; gguf reads its config.json."),
    ] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Copy a verified adapter, whole, to a new folder; or write it as another engine needs it."""
    from finetune.adapters.find import find_usable
    from finetune.adapters.variants import export_as
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit

    manifest = export_as(form, find_usable(Home(home.absolute()), adapter), out=out, base=base)
    scored = form is not ExportFormat.GGUF and base is not None
    said = "its scores are those of training" if scored else "it was not scored over its base"
    emit(
        {"adapter": manifest.adapter_id, "folder": str(out.absolute()), "format": form.value, "scored": scored},
        as_json=json,
        text=f"{manifest.adapter_id} is in {out}; {said}.",
    )


app.command("sign", epilog=finetune.cli.sign.EXAMPLES)(finetune.cli.sign.sign)
app.command("bom", epilog=finetune.cli.bom.EXAMPLES)(finetune.cli.bom.bom)
app.command("merge", epilog=finetune.cli.merge.EXAMPLES)(finetune.cli.merge.merge)
app.command("promote", epilog=finetune.cli.release.PROMOTE_EXAMPLES)(finetune.cli.release.promote)
app.command("rollback", epilog=finetune.cli.release.ROLLBACK_EXAMPLES)(finetune.cli.release.rollback)
app.command("history", epilog=finetune.cli.release.HISTORY_EXAMPLES)(finetune.cli.release.history)


def _verify_merged(folder: Path, base: Path | None, trust: Path | None, *, json: bool) -> None:
    from finetune.adapters.merge_check import verify_merged
    from finetune.contracts.errors import UsageError
    from finetune.terminal.output import emit

    if base is not None:
        raise UsageError(f"{folder} is a merged model, which needs no base.", "Leave --base out.")
    if trust is not None:
        raise UsageError(f"{folder} is a merged model, and adapters alone are signed.", "Leave --trust out.")
    manifest, check = verify_merged(folder)
    scored = f"{check.worst:.4f} nat off at most" if check else "not scored: no room in memory, then or now"
    emit(
        {
            "adapter": manifest.adapter_id,
            "folder": str(folder.absolute()),
            "valid": True,
            "check": check.model_dump(mode="json") if check else None,
        },
        as_json=json,
        text=f"{folder} is whole: {len(manifest.files)} files as its manifest says; its reference text is {scored}.",
    )


def _live(home: "Home") -> dict[str, list[str]]:
    """Aliases by adapter id, as the record has them; none, with a note, where the record does not hold."""
    from finetune.contracts.chain import Chain, live_places
    from finetune.contracts.errors import RunError
    from finetune.terminal.output import note

    try:
        found = live_places(Chain(home.releases, notice=note).read())
    except RunError as error:
        note(f"What is live is not shown: {error.message}")
        return {}
    return {adapter: [str(place) for place in places] for adapter, places in found.items()}


def _withdrawn(home: "Home", manifest: "AdapterManifest") -> str:
    """When, by whom and why an adapter was withdrawn, "" if it was not."""
    from finetune.contracts.errors import AdapterError
    from finetune.contracts.withdrawal import read_mark

    try:
        mark = read_mark(home.adapters, manifest.digests.weights)
    except AdapterError as error:
        return error.message
    return str(mark) if mark else ""


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
