"""Which datasets, runs and adapters a home has: who was trained on what, by content digest."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune.contracts.adapter import ADAPTER_MANIFEST_NAME, AdapterManifest
from finetune.contracts.chain import Chain, LivePlace, live_places
from finetune.contracts.dataset import MANIFEST_NAME
from finetune.contracts.errors import AdapterError, InputError, RunError
from finetune.contracts.io import read_model
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.contracts.withdrawal import read_mark
from finetune.terminal.output import note

Certainty = Literal["saw it", "may have seen it"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A run or an adapter and the dataset it learned from.

    certainty "may have seen it": the run learned from another state of the same folder, which is gone. live are the
    aliases that point at an adapter by the record of the home. withdrawn is when and why it was, "" where it was not.
    weights is the digest of an adapter's weights, "" for a run, and run_id the run that made it.
    """

    kind: Literal["run", "adapter"]
    name: str
    folder: Path
    recipe: str
    dataset_digest: str
    certainty: Certainty
    live: tuple[LivePlace, ...] = ()
    withdrawn: str = ""
    weights: str = ""
    run_id: str = ""

    @property
    def state(self) -> str:
        """Whether it was withdrawn, else the aliases it is live under; "" for neither."""
        return f"withdrawn {self.withdrawn}" if self.withdrawn else ", ".join(map(str, self.live))


def trained_on(
    home: Home,
    digests: Collection[str],
    *,
    folders: Collection[Path],
    earlier: Collection[str] = (),
    clean: Collection[str] = (),
) -> list[Trained]:
    """Runs and adapters that learned from datasets of these digests, or from another state of one of these folders.

    earlier are digests of such states that are known. clean are digests of states that are known to hold nothing of
    what is asked about.

    An adapter is judged by its own manifest, and by the run that made it where that is still there. What cannot be
    read is named on stderr.
    """
    places = {folder.resolve() for folder in folders}
    found: dict[str, Trained] = {}
    for folder, state in _runs(home):
        certainty = _certainty(state, digests, earlier=earlier, places=places)
        if certainty and state.dataset_digest not in clean:
            found[state.run_id] = Trained(
                "run", state.run_id, folder, state.recipe_name, state.dataset_digest, certainty
            )
    adapters, live = [], _live(home)
    for folder, manifest in _adapters(home):
        run = found.get(manifest.run_id)
        seen: Certainty | None = run.certainty if run else None
        if manifest.digests.dataset in digests:
            seen = "saw it"
        elif manifest.digests.dataset in earlier:
            seen = "may have seen it"
        if seen:
            recipe = run.recipe if run else ""
            places_of = live.get(manifest.adapter_id, ())
            adapters.append(
                Trained(
                    kind="adapter",
                    name=manifest.adapter_id,
                    folder=folder,
                    recipe=recipe,
                    dataset_digest=manifest.digests.dataset,
                    certainty=seen,
                    live=places_of,
                    withdrawn=_withdrawn(home, manifest),
                    weights=manifest.digests.weights,
                    run_id=manifest.run_id,
                )
            )
    return [*found.values(), *adapters]


def _live(home: Home) -> Mapping[str, tuple[LivePlace, ...]]:
    try:
        return live_places(Chain(home.releases, notice=note).read())
    except RunError as error:
        note(f"What is live cannot be told: {error.message}")
        return {}


def _withdrawn(home: Home, manifest: AdapterManifest) -> str:
    try:
        mark = read_mark(home.adapters, manifest.digests.weights)
    except AdapterError as error:
        return error.message
    return str(mark) if mark else ""


def datasets_of(home: Home) -> list[Path]:
    """Folders of all datasets that a home knows: those in it, those it built elsewhere, those its runs learned from."""
    folders = (
        {path.parent.resolve() for path in home.datasets.rglob(MANIFEST_NAME)} if home.datasets.is_dir() else set()
    )
    folders |= {place.resolve() for place in _built(home)}
    folders |= {Path(state.dataset_path).resolve() for _, state in _runs(home)}
    return sorted(folder for folder in folders if (folder / MANIFEST_NAME).is_file())


def _certainty(
    state: RunState, digests: Collection[str], *, earlier: Collection[str], places: Collection[Path]
) -> Certainty | None:
    if state.dataset_digest in digests:
        return "saw it"
    is_earlier = state.dataset_digest in earlier or Path(state.dataset_path).resolve() in places
    return "may have seen it" if is_earlier else None


def _built(home: Home) -> Iterator[Path]:
    from data_pipelines.engine.work import Work

    for folder in sorted(home.data.iterdir()) if home.data.is_dir() else ():
        place = Work(folder).place if folder.is_dir() else None
        if place is not None:
            yield place


def _runs(home: Home) -> Iterator[tuple[Path, RunState]]:
    for folder in sorted(home.runs.iterdir()) if home.runs.is_dir() else ():
        if RunLayout(folder).state.is_file():
            try:
                yield folder, read_model(RunLayout(folder).state, RunState, error=RunError, hint="")
            except InputError as error:
                note(f"Not looked at: {error.message}")


def _adapters(home: Home) -> Iterator[tuple[Path, AdapterManifest]]:
    """Published adapters, and those that only lie in their run."""
    folders = [*(home.adapters.iterdir() if home.adapters.is_dir() else ())]
    folders += [RunLayout(run).adapter for run in home.runs.iterdir()] if home.runs.is_dir() else []
    seen: set[str] = set()
    for folder in sorted(folders, key=lambda place: (place.parent != home.adapters, place)):
        if folder.name.startswith(".") or not (folder / ADAPTER_MANIFEST_NAME).is_file():
            continue
        try:
            manifest = read_model(folder / ADAPTER_MANIFEST_NAME, AdapterManifest, error=AdapterError, hint="")
        except InputError as error:
            note(f"Not looked at: {error.message}")
            continue
        if manifest.adapter_id not in seen:
            seen.add(manifest.adapter_id)
            yield folder, manifest
