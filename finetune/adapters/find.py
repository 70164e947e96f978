"""Find an adapter by id, name, run or path, and list those of a home. Light: no model library is loaded."""

import difflib
from pathlib import Path

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, AdapterManifest
from finetune.contracts.adapter_files import read_manifest
from finetune.contracts.errors import AdapterError
from finetune.contracts.run import Home, RunLayout
from finetune.contracts.withdrawal import check_not_withdrawn
from finetune.terminal.output import note, printable


def list_adapters(home: Home) -> tuple[AdapterManifest, ...]:
    """Manifests of the published adapters, newest first; one that cannot be read is left out with a note."""
    found = []
    for folder in sorted(home.adapters.iterdir()) if home.adapters.is_dir() else []:
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        try:
            found.append(read_manifest(folder))
        except AdapterError as error:
            note(printable(f"Left out of the list: {error.message}"))
    return tuple(sorted(found, key=lambda manifest: (-manifest.created_at, manifest.adapter_id)))


def find_usable(home: Home, given: str) -> Path:
    """find_adapter of one that was not withdrawn. Raises AdapterError also for one that was."""
    folder = find_adapter(home, given)
    check_not_withdrawn(home.adapters, read_manifest(folder))
    return folder


def find_adapter(home: Home, given: str) -> Path:
    """The folder of an adapter: a path, an adapter id or the start of one, a run id, or a name (then its newest).

    Raises AdapterError naming what is close when nothing fits, or when the start of an id fits several.
    """
    places = (Path(given), home.adapters / given, RunLayout(home.runs / given).adapter, RunLayout(Path(given)).adapter)
    for place in places:
        if given and (place / ADAPTER_MANIFEST_NAME).is_file():
            return place.resolve()
    known = list_adapters(home)
    for manifest in known:
        if given == manifest.adapter_id.rpartition("-")[0]:
            return home.adapters / manifest.adapter_id
    starting = [manifest.adapter_id for manifest in known if given and manifest.adapter_id.startswith(given)]
    if len(starting) == 1:
        return home.adapters / starting[0]
    if starting:
        raise AdapterError(f"{given} fits several adapters: {', '.join(starting)}.", "Give more of the id.")
    if given and RunLayout(home.runs / given).sweep.is_file():
        raise AdapterError(f"{given} is a sweep, which has several runs.", f"Name one of them, such as {given}-1.")
    if (home.runs / given).is_dir() and given:
        raise AdapterError(
            f"The run {given} has no adapter: it did not finish.", f"Go on with it: finetune train --resume {given}"
        )
    near = difflib.get_close_matches(given, [manifest.adapter_id for manifest in known], n=1, cutoff=0.5)
    raise AdapterError(
        f"There is no adapter, run or folder called {given}.",
        f"Did you mean {near[0]}?" if near else "`finetune adapter list` shows the adapters of this home.",
    )
