"""docs/cli.md, made from the commands themselves. `python -m finetune.cli.reference` rewrites it."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import typer

TARGET = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
HEAD = "# Command reference\n\nMade from the commands' own help by `python -m finetune.cli.reference`.\n"


def command_reference() -> str:
    """The whole page: the help text of each command, groups in the order of `finetune --help`."""
    from finetune.cli.main import app

    parts = [HEAD]
    for words in [[], *_command_paths(app, [])]:
        title = " ".join(["finetune", *words])
        parts.append(f"\n## {title}\n\n```\n{help_text(words)}\n```\n")
    return "".join(parts)


def help_text(words: list[str]) -> str:
    """What `finetune WORDS --help` prints, 100 columns wide."""
    from finetune.cli.main import app

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        app(args=[*words, "--help"], prog_name="finetune", standalone_mode=False, terminal_width=100)
    return printed.getvalue().strip()


def _command_paths(group: typer.Typer, words: list[str]) -> Iterator[list[str]]:
    for command in group.registered_commands:
        callback = command.callback
        name = command.name or (callback.__name__.replace("_", "-") if callback else "")
        yield [*words, name]
    for inner in group.registered_groups:
        if inner.typer_instance is not None and inner.name:
            yield [*words, str(inner.name)]
            yield from _command_paths(inner.typer_instance, [*words, str(inner.name)])


if __name__ == "__main__":
    from finetune.contracts.io import write_text

    write_text(TARGET, command_reference())
