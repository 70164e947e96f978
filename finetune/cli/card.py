"""The card for the length of a job: servers of the same home leave it, and come back by themselves."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from finetune.contracts.card import Card, CardServer, HeldCards
    from finetune.contracts.run import Home

ShareCard = Annotated[
    bool, typer.Option("--share-card", help="Work beside what is on the card: no server of this home leaves it.")
]
# Beyond the time that a server gives its answers: it may have begun to load its base a moment ago
LOADING_SECONDS = 300.0
TELL_SECONDS = 10.0
POLL_SECONDS = 0.1


@contextmanager
def having_card(home: "Home", does: str, *, num_cards: int = 1, share: bool = False) -> "Iterator[HeldCards]":
    """Have the first num_cards cards while the block runs; does says what for, to whoever finds them taken.

    Yields what the processes of the job must hold too. Servers of home are asked to leave, and waited for. share:
    nobody is asked, and nobody waits. Raises MachineError when a server keeps the card or does not leave in time,
    CardTakenError when another job has it.
    """
    from finetune.contracts.card import CardJob, HeldCards

    if share:
        yield HeldCards(())
        return
    from finetune.model.cards import cards

    found = cards(home.cards, num_cards)
    with ExitStack() as held:
        # a job that will be refused must not send another server away first
        _refuse_kept(found)
        job = CardJob(pid=os.getpid(), does=does)
        handles = [held.enter_context(card.wanted(job)) for card in found]
        _wait_until_free(found)
        yield HeldCards(handles)


def _wait_until_free(cards: "Sequence[Card]") -> None:
    from finetune.contracts.errors import MachineError
    from finetune.terminal.output import note
    from finetune.terminal.progress import format_seconds

    started = told_at = time.monotonic()
    asked: set[int] = set()
    while servers := _refuse_kept(cards):
        now = time.monotonic()
        for server in servers:
            if server.pid not in asked:
                asked.add(server.pid)
                note(
                    f"Asked the server at {server.url} (process {server.pid}) for the card. It ends its answers "
                    f"first, in {format_seconds(server.drain_seconds)} at most, and comes back after this."
                )
        if now - told_at >= TELL_SECONDS:
            told_at = now
            note(f"Waiting for the card, {format_seconds(now - started)}")
        if now - started > max(server.drain_seconds for server in servers) + LOADING_SECONDS:
            raise MachineError(
                f"The server at {servers[0].url} (process {servers[0].pid}) does not leave the card.",
                "Its log says why. Stop it, then run the same command again.",
            )
        time.sleep(POLL_SECONDS)
    if asked:
        note(f"The card is free after {format_seconds(time.monotonic() - started)}.")


def _refuse_kept(cards: "Sequence[Card]") -> "list[CardServer]":
    """The servers on the cards. Raises MachineError for one that leaves for nobody."""
    from finetune.contracts.errors import MachineError

    servers = [server for card in cards for server in card.servers()]
    for server in servers:
        if not server.yields:
            raise MachineError(
                f"The server at {server.url} (process {server.pid}) has the card and was started with --keep-card.",
                f"Stop it: kill {server.pid}. Or add --share-card, where memory is enough for both.",
            )
    return servers
