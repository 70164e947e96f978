"""finetune adapter sign: who answers for an adapter, in a form that the OpenSSF tool reads, too."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

EXAMPLES = (
    "Examples: `finetune adapter sign ./handover --key release.key.pem`, "
    "`finetune adapter sign embedded-1f0c9a2b3d4e --key release.key.pem --password-file secret.txt`."
)


def sign(
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="An adapter's id or folder, or the run that made it.")
    ],
    key: Annotated[Path, typer.Option(metavar="KEY.pem", help="The private key, ECDSA over P-256.")],
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the key's password. None: it is asked for.")
    ] = None,
    home: HomeFolder = DEFAULT_HOME,
    json: Json = False,
) -> None:
    """Sign all files of an adapter, its manifest with them; the signature is put beside them as signature.json.

    Needs no GPU, no base and no network: sign an exported folder where the key is. Sign after the last evaluation,
    whose scores go into the manifest.
    """
    from finetune.adapters.find import find_usable
    from finetune.adapters.sign import sign_adapter
    from finetune.contracts.run import Home
    from finetune.terminal.output import emit

    folder = find_usable(Home(home.absolute()), adapter)
    manifest, signer = sign_adapter(folder, key, password=lambda: _password(key, password_file))
    emit(
        {"adapter": manifest.adapter_id, "folder": str(folder), "signer": signer},
        as_json=json,
        text=f"{manifest.adapter_id} is signed with the key {signer}: {folder}/signature.json.",
    )


def _password(key: Path, file: Path | None) -> str:
    import getpass
    import sys

    from finetune.contracts.errors import UsageError

    if file is None and not sys.stdin.isatty():
        raise UsageError(f"{key} is encrypted, and there is nobody to ask.", "Give --password-file FILE.")
    try:
        return getpass.getpass(f"Password of {key}: ") if file is None else file.read_text().rstrip("\n")
    except (OSError, ValueError) as error:
        raise UsageError(f"--password-file {file} cannot be read.", "Give the file that holds the password.") from error
