"""finetune serve follow: let names on the endpoint stand for what the registry's aliases point to."""

import re
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder
from serving.cli import DEFAULT_URL, Url

if TYPE_CHECKING:
    from finetune.contracts.run import Home
    from finetune.release.registry import Registry

EXAMPLES = (
    "Examples: `finetune serve follow shop=shop`, "
    "`finetune serve follow shop=shop beta=shop@challenger --url http://127.0.0.1:8080`."
)
PAIR = re.compile(r"(?P<name>[^=@]+)=(?P<model>[^=@]+)(?:@(?P<alias>[^=@]+))?")
DEFAULT_ALIAS = "champion"


@dataclass(frozen=True, slots=True)
class Followed:
    """A name on the endpoint, and the alias of a registered model that it follows."""

    name: str
    registry: "Registry"
    alias: str


def follow(
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=MODEL[@ALIAS]...", help="The endpoint's name, the registered model and its alias."
        ),
    ],
    url: Url = DEFAULT_URL,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="How often to look.")] = 1.0,
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="MLflow's server, if not the home's own store.")
    ] = None,
    webhook_port: Annotated[
        int | None,
        typer.Option(
            "--webhook-port",
            metavar="PORT",
            min=1,
            max=65535,
            help="Look at once when --server sends its webhook here.",
        ),
    ] = None,
    webhook_secret: Annotated[
        Path | None,
        typer.Option("--webhook-secret-file", metavar="FILE", help="The secret that the webhook was made with."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Follow aliases of the registry until Ctrl-C: who promotes or rolls back changes what the endpoint answers with.

    A name whose alias points nowhere is unloaded. A server or a store that is away is asked again.
    """
    from finetune.contracts.errors import PlatformError
    from finetune.contracts.run import Home
    from finetune.terminal.output import note
    from finetune.terminal.signals import interrupted_by_signals

    followed = _followed(pairs, Home(home), server)
    told = ""
    with interrupted_by_signals(), _events(server, webhook_port, webhook_secret) as woken:
        while True:
            # before the look: what moves during it is looked at again
            woken.clear()
            try:
                follow_once(followed, url)
                told = ""
            except PlatformError as error:
                if once:
                    raise
                # the same trouble is told once
                if error.message != told:
                    note(f"{error.message} Trying again.")
                told = error.message
            if once:
                return
            woken.wait(every)


def follow_once(followed: Sequence[Followed], url: str) -> None:
    """Move each name whose alias points elsewhere than what the endpoint at url serves under it.

    Raises MachineError when the store or the endpoint is away, AdapterError when an adapter is refused; names before
    the refused one have moved then, and those behind it are tried all the same.
    """
    from finetune.contracts.errors import AdapterError
    from finetune.terminal.output import note
    from serving.client import call

    cards = call(url, "/v1/adapters", expects="available")["data"]
    served = {card["name"]: card["adapter_id"] for card in cards}
    refused = None
    for one in followed:
        wanted = one.registry.adapter_of(one.alias)
        if wanted == served.get(one.name, ""):
            continue
        try:
            if wanted:
                call(url, "/v1/adapters/alias", expects="adapter", body={"alias": one.name, "adapter": wanted})
            else:
                call(url, "/v1/unload_lora_adapter", expects="name", body={"lora_name": one.name})
        except AdapterError as error:
            refused = error
        else:
            note(f"{one.name} is {wanted or 'served no more'}, as {one.registry.name}@{one.alias} says.")
    if refused:
        raise refused


def _events(server: str | None, port: int | None, secret_file: Path | None) -> AbstractContextManager[threading.Event]:
    """What wakes between two looks; nothing does where no port is given."""
    from finetune.contracts.errors import UsageError
    from finetune.release.alias_events import alias_events, read_secret

    if port is None and secret_file is None:
        return nullcontext(threading.Event())
    if port is None or secret_file is None or server is None:
        raise UsageError(
            "--webhook-port, --webhook-secret-file and --server go together.",
            "A home's own store sends no webhook: it is looked at every second.",
        )
    return alias_events(port, read_secret(secret_file))


def _followed(pairs: Sequence[str], home: "Home", server: str | None) -> list[Followed]:
    from finetune.contracts.errors import UsageError
    from finetune.release.registry import registry_of

    found = []
    for pair in pairs:
        parts = PAIR.fullmatch(pair)
        if parts is None:
            raise UsageError(f"{pair} is not NAME=MODEL or NAME=MODEL@ALIAS.", "Give it as shop=shop@champion.")
        registry = registry_of(home, parts["model"], server=server)
        found.append(Followed(parts["name"], registry, parts["alias"] or DEFAULT_ALIAS))
    return found
