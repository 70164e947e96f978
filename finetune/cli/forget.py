"""finetune data forget: out of a dataset for good, and, with --apply, what learned from it off the registry."""

from typing import TYPE_CHECKING, Annotated

import typer

from data_pipelines.cli import Author, DatasetFolder, KeyFile
from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetune.cli.forgetting import Order

EXAMPLES = (
    "Examples: `finetune data forget .finetune/datasets/own --path 'shop:src/legacy/*'`, "
    "`finetune data forget .finetune/datasets/own --author ada@corp.example --apply --endpoint http://127.0.0.1:8000`."
)


def forget(
    folder: DatasetFolder,
    path: Annotated[str, typer.Option("--path", metavar="REPO:GLOB", help="Files of a repository.")] = "",
    repo: Annotated[str, typer.Option("--repo", metavar="NAME", help="A whole repository.")] = "",
    author: Author = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only what would be done is shown.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Withdraw the adapters that learned from it, too; asks, unless --yes.")
    ] = False,
    only_certain: Annotated[
        bool, typer.Option("--only-certain", help="With --apply: leave adapters that only may have seen it.")
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="With --apply: take them off this running endpoint, too.")
    ] = None,
    who: Annotated[
        str, typer.Option("--as", metavar="NAME", help="With --apply: who does it. None: the user of the system.")
    ] = "",
    key_file: KeyFile = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Take a path, repository or author out of a dataset for good, and list everything that was trained on it.

    With --apply adapters that learned from it are withdrawn, which nothing takes back, and a receipt is written.
    """
    from data_pipelines.lineage.lineage import author_of, find_key
    from data_pipelines.lineage.lineage_text import removal_text
    from data_pipelines.lineage.removal import plan_removal, put_back, removal_document, subject_of
    from finetune.cli.forgetting import Order, carry_out, hindrance, plan_text
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, note

    place = Home(home.absolute())
    _check_options(apply=apply, only_certain=only_certain, endpoint=endpoint, who=who)
    key = find_key(place.data, key_file)
    put_back(folder, home=place)
    digest = author_of(folder, author, key=key) if author else ""
    removal = plan_removal(folder, subject_of(folder, path=path, repo=repo, author=digest), home=place, key=key)
    order = Order(place, removal, key=key, only_certain=only_certain, endpoint=endpoint or "", who=who, apply=apply)
    blocked = hindrance(order)
    words = ([] if home == DEFAULT_HOME else ["--home", str(home)], _given(path=path, repo=repo, author=author))
    commands = _commands(order, *words)
    text = "\n\n".join(part for part in (removal_text(removal, commands=commands), plan_text(order), blocked) if part)
    document: dict[str, object] = {**removal_document(removal), "next": commands}
    if yes or (apply and _confirmed(text, as_json=json)):
        # a receipt and the record name no person that is to be forgotten
        kept = _commands(order, words[0], _given(path=path, repo=repo, author=digest))
        done = carry_out(order, to_do=kept)
        shown = text + "\n\n" if yes else ""
        emit({**document, "done": True, **done.document}, as_json=json, text=shown + done.text)
        return
    if apply:
        note("Nothing was changed.")
        return
    also = ", and --apply withdraws the adapters, too" if order.adapters else ""
    text += f"\n\nNothing was changed: this is what --yes would do{also}."
    emit({**document, "done": False}, as_json=json, text=text)


def _check_options(*, apply: bool, only_certain: bool, endpoint: str | None, who: str) -> None:
    from finetune.contracts.errors import UsageError

    given = {"--only-certain": only_certain, "--endpoint": endpoint, "--as": who}
    for name in (name for name, value in given.items() if value and not apply):
        raise UsageError(f"{name} says something about adapters that are withdrawn.", "Add --apply, or leave it out.")


def _given(*, path: str, repo: str, author: str) -> list[str]:
    names = {"--path": path, "--repo": repo, "--author": author}
    return [word for option, value in names.items() if value for word in (option, value)]


def _commands(order: "Order", home: "Sequence[str]", option: "Sequence[str]") -> list[str]:
    from data_pipelines.lineage.lineage_text import next_commands

    withdrawn = [adapter.name for adapter in order.adapters] if order.apply else []
    return next_commands(order.removal, option, home=home, withdrawn=withdrawn)


def _confirmed(text: str, *, as_json: bool) -> bool:
    """Show what will be done and let the user type the word. Raises UsageError where nobody can be asked."""
    import sys

    from finetune.contracts.errors import UsageError

    if as_json or not sys.stdin.isatty():
        raise UsageError("Nobody can be asked here whether to withdraw.", "Look at it without --apply, then add --yes.")
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()
    sys.stderr.write("Type withdraw to go on: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == "withdraw"
