"""The option --jail, and what a command says of its jail."""

from typing import Annotated

import typer

from finetune.guard.jail import JailMode, Needs, enter
from finetune.terminal.output import note

Jail = Annotated[
    JailMode,
    typer.Option(
        "--jail",
        help="Close the process off from the network: by a namespace, or a filter of system calls. auto: the "
        "strongest that works here.",
    ),
]


def enter_jail(mode: JailMode, needs: Needs) -> None:
    """Enter the jail that the user asked for; says so where less holds. Raises MachineError as `enter` does.

    Called once it is known whom the user named, and before anything heavy is imported: a process with threads cannot
    move to a network of its own.
    """
    notice = enter(mode, needs)
    if notice:
        note(notice)
