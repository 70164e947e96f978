"""finetune doctor: what this machine can do and what is missing, and whether a job could get out of it."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.guard.jail import JailMode, Needs
from finetune.terminal.jail import Jail, enter_jail
from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

if TYPE_CHECKING:
    from finetune.guard.escape import Try

app = typer.Typer(rich_markup_mode=None)
EXAMPLES = "Examples: `finetune doctor`, `finetune doctor --home /srv/finetune --json`."
EGRESS_EXAMPLES = "Examples: `finetune doctor egress`, `finetune doctor egress --to 10.0.0.1:443 --json`."
ESCAPE_SECONDS = 120.0


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
def doctor(context: typer.Context, home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """Show what this machine can do, what is missing, and what to type next.

    Exit code 4 when something is missing that no command can do without.
    """
    if context.invoked_subcommand is not None:
        return
    from finetune.cli.doctor_checks import check_machine
    from finetune.contracts.errors import MachineError
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, note, table

    checks = list(check_machine(Home(home.absolute()), tell=note))
    rows = [(check.state, check.name, check.found) for check in checks]
    todo = [f"  {check.name}: {check.next}" for check in checks if check.next]
    text = "\n".join([table(rows), *(["", "To do:", *todo] if todo else [])])
    usable = all(check.state != "missing" for check in checks)
    emit({"usable": usable, "checks": [asdict(check) for check in checks]}, as_json=json, text=text)
    if not usable:
        raise typer.Exit(MachineError.exit_code)


@app.command("egress", epilog=EGRESS_EXAMPLES)
def egress(
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="ADDRESS:PORT", help="Try this one too, beside those that nobody has."),
    ] = None,
    jail: Jail = JailMode.AUTO,
    json: Json = False,
) -> None:
    """Try to get out as a job could: TCP, UDP, DNS, the C library, a child process. Each must fail at once.

    Exit code 4 when a packet left.
    """
    from finetune.contracts.errors import MachineError
    from finetune.guard.layers import holding_layers
    from finetune.terminal.output import emit, note, table

    named = _destination(to)
    enter_jail(jail, Needs())
    layers = [layer.value for layer in holding_layers()]
    tries = _try_to_leave(named)
    rows = [(one.way, one.target, "held" if one.held else "OUT", one.seen) for one in tries]
    text = "\n".join(
        [f"Held by: {', '.join(layers) or 'nothing'}", "", table(rows, header=("way", "to", "result", "seen"))]
    )
    held = all(one.held for one in tries)
    emit({"held": held, "layers": layers, "tries": [asdict(one) for one in tries]}, as_json=json, text=text)
    if not held:
        note(_open_ways([one.way for one in tries if not one.held], layers))
        raise typer.Exit(MachineError.exit_code)


def _open_ways(ways: list[str], layers: list[str]) -> str:
    named = ", ".join(dict.fromkeys(ways))
    text = f"Error: not everything was held: {named}."
    if layers == ["audit hook"]:
        text += (
            " The audit hook sees what Python's socket module is asked alone; a C library or a program that is started "
            "goes past it."
        )
    return f"{text}\nWhat holds them is the jail: see docs/jail.md."


def _destination(to: str | None) -> tuple[str, int] | None:
    """An address and a port of the user's. Raises UsageError for what is none."""
    from finetune.contracts.errors import UsageError
    from finetune.guard.escape import family_of

    if to is None:
        return None
    host, _, port = to.rpartition(":")
    try:
        family_of(host.strip("[]"))
        number = int(port)
    except ValueError:
        number = 0
    if not 0 < number < 2**16:
        raise UsageError(f"--to {to!r} is no address with a port.", "Give one such as 10.0.0.1:443 or [fd00::1]:443.")
    return host.strip("[]"), number


def _try_to_leave(named: tuple[str, int] | None) -> "list[Try]":
    """What became of each try, made in a process of its own that is as a worker of a job is."""
    import json
    import os
    import subprocess
    import sys

    from finetune.guard.escape import Try
    from finetune.guard.record import JOURNAL_VARIABLE

    words = [named[0], str(named[1])] if named else []
    # what is tried on purpose is no attempt of a job
    environment = {name: value for name, value in os.environ.items() if name != JOURNAL_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-m", "finetune.guard.escape", *words],
        capture_output=True,
        text=True,
        timeout=ESCAPE_SECONDS,
        check=True,
        env=environment,
    )
    return [Try(**document) for document in json.loads(done.stdout)]
