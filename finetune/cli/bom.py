"""finetune adapter bom: what went into an adapter, as a document that other tools read."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

EXAMPLES = (
    "Examples: `finetune adapter bom embedded-1f0c9a2b3d4e --out ours.cdx.json`, "
    "`finetune adapter bom ./handover --out ours.cdx.json --json`."
)


def bom(
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="An adapter's id or folder, or the run that made it.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Receives the document.")],
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Write the bill of materials of an adapter: a CycloneDX 1.6 document with its scores.

    It names base, dataset and recipe by digest, and the libraries that trained it with their licences. The one in the
    adapter's folder is of before it was evaluated.
    """
    from finetune.adapters.bom import bom_document, written_materials
    from finetune.adapters.find import find_adapter
    from finetune.contracts.io import write_json
    from finetune.contracts.run import Home
    from finetune.contracts.sound_adapter import check_sound
    from finetune.terminal.output import emit

    folder = find_adapter(Home(home.absolute()), adapter)
    manifest = check_sound(folder)
    materials = written_materials(folder)
    write_json(out, bom_document(manifest, materials))
    known = "not known" if materials.libraries is None else f"{len(materials.libraries)}"
    emit(
        {"adapter": manifest.adapter_id, "file": str(out.absolute()), "libraries": len(materials.libraries or ())},
        as_json=json,
        text=f"The bill of materials of {manifest.adapter_id} is in {out}; libraries that made it: {known}.",
    )
