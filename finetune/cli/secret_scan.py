"""The scanner of data_pipelines as evaluation may use it: composed here, because neither may know the other."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.contracts.run import Home
    from finetune.evaluate.leakage.scan import SecretScan


def secret_scan(home: "Home", dataset: Path, *, key_file: Path | None = None) -> "SecretScan":
    """The scanner with the key of the placeholders of dataset: that in key_file, None: the one of home's own builds.

    Without it secrets are still found, but none is known again. Raises DatasetError when dataset is none, or when the
    key in key_file is not the one its placeholders were made with; InputError for a key_file that cannot be read.
    """
    from data_pipelines.config import RedactSection
    from data_pipelines.lineage.lineage import find_key, key_name_of
    from data_pipelines.redact.form import form_of
    from data_pipelines.redact.key import key_name
    from data_pipelines.redact.pack import default_pack
    from data_pipelines.redact.redactor import Redactor
    from data_pipelines.sinks.target import read_manifest
    from finetune.contracts.errors import DatasetError
    from finetune.contracts.io import digest_text
    from finetune.evaluate.leakage.scan import SecretScan

    wanted = key_name_of(read_manifest(dataset))
    key = find_key(home.data, key_file) or b""
    same_key = bool(key) and key_name(key) == wanted
    if key_file is not None and not same_key:
        raise DatasetError(
            f"The placeholders in {dataset} were made with another key than that in {key_file}.",
            "Give the file that redact.key_file of its pipeline file named, or leave --key-file out.",
        )
    redactor = Redactor(RedactSection(secrets=True, emails=False, names=False), key or b"no key in this home")
    return SecretScan(
        redact=lambda text, at: redactor.redact(text, form_of(at)).text,
        same_key=same_key,
        digest=digest_text(f"{default_pack().digest} {key_name(key)}"),
    )
