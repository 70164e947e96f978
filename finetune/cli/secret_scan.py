"""The scanner of data_pipelines as evaluation may use it: composed here, because neither may know the other."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.contracts.run import Home
    from finetune.evaluate.leakage.scan import SecretScan


def secret_scan(home: "Home", dataset: Path) -> "SecretScan":
    """The scanner with the key of the placeholders of dataset, where home has it.

    Without it secrets are still found, but none is known again. Raises DatasetError when dataset is none.
    """
    from data_pipelines.config import RedactSection
    from data_pipelines.engine.work import KEY_NAME
    from data_pipelines.redact.form import form_of
    from data_pipelines.redact.key import key_name
    from data_pipelines.redact.pack import default_pack
    from data_pipelines.redact.redactor import Redactor
    from data_pipelines.sinks.target import read_manifest
    from finetune.contracts.io import digest_text
    from finetune.evaluate.leakage.scan import SecretScan

    settings = json.loads(read_manifest(dataset).settings or "{}")
    path = home.data / KEY_NAME
    key = path.read_bytes() if path.is_file() else b""
    redactor = Redactor(RedactSection(secrets=True, emails=False, names=False), key or b"no key in this home")
    return SecretScan(
        redact=lambda text, at: redactor.redact(text, form_of(at)).text,
        same_key=bool(key) and key_name(key) == settings.get("redact", {}).get("key_name"),
        digest=digest_text(f"{default_pack().digest} {key_name(key)}"),
    )
