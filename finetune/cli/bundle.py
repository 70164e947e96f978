"""finetune bundle: one archive that brings finetune to a machine without a network."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.terminal.options import Json

if TYPE_CHECKING:
    from finetune.bundle.install import BundleError
    from finetune.contracts.errors import PlatformError

app = typer.Typer(
    help="Bring finetune to a machine without a network: make a bundle, install one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
EXTRAS = ("serve", "scale", "conformance", "dev")


@app.command(
    "create",
    epilog="Examples: `finetune bundle create --out finetune.tar`, "
    "`finetune bundle create --out box.tar --platform manylinux_2_28_x86_64 --python 3.12 --wheels ./cuda`.",
)
def create(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The archive to write.")],
    platform: Annotated[
        str | None,
        typer.Option(metavar="TAG", help="Such as manylinux_2_28_x86_64. None: a machine like this one."),
    ] = None,
    python: Annotated[str | None, typer.Option(metavar="X.Y", help="Python of that machine. None: this one's.")] = None,
    extras: Annotated[str, typer.Option("--with", metavar="EXTRA,...", help="Extras to bring along.")] = "serve",
    wheels: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Your own wheels, such as torch for CUDA: each goes in instead of pip's."),
    ] = None,
    json: Json = False,
) -> None:
    """Make one archive of all wheels, this project, recipes and documents.

    pip fetches the wheels with your settings; this is the one command of finetune that fetches anything.
    """
    from dataclasses import asdict

    from finetune.bundle.create import create_bundle, running_project
    from finetune.bundle.wheels import Target, running_python
    from finetune.terminal.output import emit, note

    wanted = _extras(extras)
    target = Target(platform, python or running_python())
    made = create_bundle(running_project(wanted), out.absolute(), target=target, own_wheels=wheels)
    for name in made.unknown_licences:
        note(f"The wheel of {name} names no licence.")
    text = f"{out}  {made.bytes / 1e6:,.0f} MB, {made.num_wheels} wheels\nsha256  {made.sha256}"
    note(f"Next, on the other machine: tar -xf {out.name} install.py && python3 install.py {out.name} --into DIR")
    emit(asdict(made), as_json=json, text=text)


@app.command(
    "install",
    epilog="Examples: `finetune bundle install finetune.tar --into /opt/finetune`, "
    "`finetune bundle install finetune.tar --verify`.",
)
def install(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An archive made by `finetune bundle create`.")],
    into: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of all installed versions.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check every byte, install nothing.")] = False,
    json: Json = False,
) -> None:
    """Install a bundle beside earlier versions, without a network; the version in use changes only at the end.

    Where finetune is not installed yet, install.py from the bundle does the same: see docs/air-gap.md.
    """
    from finetune.bundle.install import BundleError, check_bundle, install_bundle
    from finetune.contracts.errors import UsageError
    from finetune.terminal.output import emit, note

    if (into is None) != verify:
        raise UsageError("Give --into DIR to install, or --verify to check only.", "See --help of the command.")
    try:
        if into is None:
            found = check_bundle(bundle)
            document: dict[str, object] = {"bundle": str(bundle), "version": found.name, "whole": True}
            emit(document, as_json=json, text=f"{bundle} is whole: {found.name}, {len(found.manifest.files)} files.")
            return
        done = install_bundle(bundle, into, tell=note)
    except BundleError as error:
        raise _of_the_tree(error) from error
    note(f"Next: {done.program} demo")
    document = {"folder": str(done.folder), "program": str(done.program), "replaced": done.replaced}
    emit(document, as_json=json, text=f"Installed {done.folder.name} in {done.folder}.")


def _extras(text: str) -> tuple[str, ...]:
    from finetune.contracts.errors import UsageError

    names = tuple(sorted({name.strip() for name in text.split(",") if name.strip()}))
    for name in names:
        if name not in EXTRAS:
            raise UsageError(f"--with {name}: there is no such extra.", f"There are: {', '.join(EXTRAS)}.")
    return names


def _of_the_tree(error: "BundleError") -> "PlatformError":
    """The installer's own error as one of finetune's: that file can import nothing of it."""
    from finetune.bundle.install import UnfitMachineError
    from finetune.contracts.errors import InputError, MachineError

    kind = MachineError if isinstance(error, UnfitMachineError) else InputError
    return kind(error.message, error.hint)
