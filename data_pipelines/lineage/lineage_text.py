"""Lineage as a person reads it."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from shlex import quote

from data_pipelines.lineage.forgetting import Forgotten
from data_pipelines.lineage.lineage import Place, RowPlaces
from data_pipelines.lineage.prune import Pruned
from data_pipelines.lineage.removal import Holder, Removal
from data_pipelines.lineage.seen import Trained
from data_pipelines.lineage.trace import Inventory, Named, Traced
from finetune.contracts.dataset import DatasetManifest, Split
from finetune.terminal.output import printable, table

SHOWN_COPIES = 20


def trace_text(folder: Path, traced: Traced, *, trained: Sequence[Trained], limit: int) -> str:
    """Counts, then rows, then who was trained on them."""
    total = traced.as_target + traced.as_context
    parts = [f"{total:,} rows of {folder}: {traced.as_target:,} learn from it, {traced.as_context:,} only show it."]
    if traced.by_kind:
        rows = [(*kind, f"{number:,}") for kind, number in sorted(traced.by_kind.items())]
        parts.append(table(rows, header=("task", "split", "slice", "rows")))
        parts.append(_rows_table(traced.rows))
    if total > len(traced.rows):
        parts.append(f"{total - len(traced.rows):,} more rows: raise --limit {limit}.")
    if traced.left_out:
        left_out = [(row.stage, printable(row.reason), f"{row.count:,}") for row in traced.left_out]
        parts += ["Left out: files, and commits", table(left_out, header=("stage", "reason", "count"))]
    return _joined([*parts, trained_text(trained)])


def example_text(row: RowPlaces, *, trained: Sequence[Trained]) -> str:
    """The sources of one row."""
    head = f"{row.task}  {_side(row)}  id {row.id}  in {row.shard}"
    places = [
        (_role(place), printable(f"{place.repo}:{place.path}"), _lines(place), place.commit[:12], place.author)
        for place in row.places
    ]
    return _joined(
        [head, table(places, header=("as", "file", "lines", "commit", "author (hash)")), trained_text(trained)]
    )


def inventory_text(folder: Path, found: Inventory, *, forgotten: Forgotten, trained: Sequence[Trained]) -> str:
    """What is in a dataset, and what must not come into it again."""
    parts = [f"What the rows of {folder} were made from"]
    kinds = (
        ("repositories", found.repositories),
        ("files", found.files),
        ("authors", found.authors),
        ("commits", found.commits),
    )
    for kind, rows in kinds:
        more = found.totals[kind] - len(rows)
        rest = [("...", f"{more:,} more")] if more else []
        parts.append(table([*_named(rows), *rest], header=(f"{found.totals[kind]:,} {kind}", "rows")))
    names = [(kind, printable(name)) for kind, named in forgotten.names().items() for name in named]
    if names:
        parts.append("Forgotten: no build takes it in again\n\n" + table(names))
    return _joined([*parts, trained_text(trained)])


def trained_text(found: Sequence[Trained]) -> str:
    """Runs and adapters."""
    if not found:
        return "No run or adapter of this home was trained on it."
    rows = [(item.kind, item.name, item.certainty, item.dataset_digest[:12], printable(item.state)) for item in found]
    text = "Trained on it\n\n" + table(rows, header=("what", "name", "", "dataset digest", "live as"))
    if any(item.certainty != "saw it" for item in found):
        text += "\n\nMay have seen it: trained on another state of the same folder, which is gone."
    return text


def removal_text(removal: Removal, *, commands: Sequence[str]) -> str:
    """What forgetting means, and what to type next."""
    kinds = [(*kind, f"{number:,}") for kind, number in sorted(removal.by_kind.items())]
    left = ", ".join(f"{removal.left[side]:,} {side}" for side in Split)
    parts = [
        f"{removal.num_rows:,} rows of {removal.folder} hold some of it, {removal.num_dropped:,} files of it were left"
        f" out before. Rows that stay: {left}.",
        table(kinds, header=("task", "split", "rows")),
    ]
    if removal.copies:
        shown = [(printable(name),) for name in removal.copies[:SHOWN_COPIES]]
        more = [(f"... {len(removal.copies) - SHOWN_COPIES:,} more",)] if len(removal.copies) > SHOWN_COPIES else []
        parts += ["Files with the same or nearly the same text, which are not forgotten", table([*shown, *more])]
    if removal.others:
        parts += ["Other datasets that hold some of it", table([_holder(other) for other in removal.others])]
    parts.append(trained_text(removal.trained))
    if commands:
        parts.append("Type next\n\n" + "\n".join(f"  {line}" for line in commands))
    return _joined(parts)


def done_text(folder: Path, made: DatasetManifest, pruned: Pruned | None, *, home: Path) -> str:
    """What was done."""
    text = f"Forgotten. {folder} has {made.num_examples():,} rows now, digest {made.content_digest[:12]}."
    if pruned is None:
        return text + (
            f" No build of it was made in {home}: where one was, its store still holds the texts."
            " Type the same with the --home of that build."
        )
    return text + f" {pruned.results:,} results and {pruned.texts:,} texts went out of the store of {home}."


def next_commands(
    removal: Removal, option: Sequence[str], *, home: Sequence[str], withdrawn: Collection[str] = ()
) -> list[str]:
    """What must be done about everything that saw it; option and home are those of the command, word by word.

    withdrawn are ids of adapters that the command withdraws itself.
    """
    lines = [_line("data", "build", "PIPELINE.yaml", "--out", removal.folder, *home)]
    for other in removal.others:
        lines.append(_line("data", "forget", other.folder, *option, *home, "--yes"))
        lines.append(_line("data", "build", "PIPELINE.yaml", "--out", other.folder, *home))
    for item in removal.trained:
        if item.kind == "run":
            again = _line("train", "RECIPE", "--set", f"data.dataset={removal.folder}", *home)
            lines.append(f"{again}    # in place of {item.name} ({item.recipe})")
        else:
            lines += _about_adapter(item, home=home, is_withdrawn=item.name in withdrawn)
    return lines


def _about_adapter(item: Trained, *, home: Sequence[str], is_withdrawn: bool) -> Iterator[str]:
    """What is live goes back to the version before; what the command does not withdraw is taken off and deleted."""
    where = "was" if is_withdrawn else "is"
    for place in item.live:
        back = _line("adapter", "rollback", "--model", place.model, "--alias", place.alias, *home)
        yield f"{back}    # {item.name} {where} live there"
    if not is_withdrawn:
        yield f"{_line('serve', 'unload', 'NAME')}    # where {item.name} is served"
        yield f"rm -r {quote(str(item.folder))}"


def _line(*words: object) -> str:
    return " ".join(["finetune", *(quote(str(word)) for word in words)])


def _holder(other: Holder) -> tuple[str, str]:
    if other.num_rows is None:
        return str(other.folder), "cannot be told: its authors were hashed with another key"
    return str(other.folder), f"{other.num_rows:,} rows, {other.num_train:,} of them in train"


def _rows_table(rows: Iterable[RowPlaces]) -> str:
    lines = []
    for row in rows:
        for number, place in enumerate(row.places):
            head = (row.id[:12], row.task, _side(row)) if not number else ("", "", "")
            name = printable(f"{place.repo}:{place.path}")
            lines.append((*head, _role(place), name, _lines(place), place.commit[:12]))
    return table(lines, header=("id", "task", "split", "as", "file", "lines", "commit"))


def _side(row: RowPlaces) -> str:
    return f"{row.split}/{row.slice}" if row.slice else str(row.split)


def _role(place: Place) -> str:
    return "target" if place.is_target else "context"


def _lines(place: Place) -> str:
    return f"{place.first_line}-{place.last_line}"


def _named(rows: Iterable[Named]) -> list[tuple[str, str]]:
    return [(printable(row.name), f"{row.rows:,}") for row in rows]


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part)
