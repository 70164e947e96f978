"""What was asked, found, withdrawn and is still to be done, for whoever must show it: JSON, and the same to be read.

A receipt is begun before anything is changed and ended after all is done. The same request goes on with one that was
begun and not ended, so that what was found before the dataset lost it is still told.
"""

import time
from itertools import count
from pathlib import Path
from typing import Literal

from finetune.contracts.dataset import Contract
from finetune.contracts.errors import InputError, RunError
from finetune.contracts.io import digest_json, read_model, write_json, write_text
from finetune.contracts.run import Home
from finetune.contracts.seal import check_seal, sealed
from finetune.release.receipt_text import receipt_text
from finetune.terminal.output import note

RECEIPT_NAME, TEXT_NAME = "receipt.json", "receipt.txt"


class Asked(Contract):
    """The request: the dataset's folder, what is to be forgotten there by kind, who asked, when (seconds since 1970).

    Authors are keyed hashes: a receipt names no person that is to be forgotten.
    """

    dataset: str
    forget: dict[str, tuple[str, ...]]
    only_certain: bool
    who: str
    at: int

    def request(self) -> str:
        """Tells requests apart; who asks, and when, is no part of it."""
        return digest_json(self.model_dump(mode="json", exclude={"who", "at"}))[:8]


class FoundAdapter(Contract):
    """An adapter that learned from it: digests of its weights and of its dataset, and how sure that is."""

    adapter_id: str
    weights: str
    run_id: str
    folder: str
    dataset_digest: str
    certainty: Literal["saw it", "may have seen it"]


class Found(Contract):
    """What knew it: rows of the dataset with this content digest, other datasets and runs by digest, and adapters."""

    dataset_digest: str
    rows: int
    other_datasets: dict[str, str]
    runs: dict[str, str]
    adapters: tuple[FoundAdapter, ...]


class WithdrawnAdapter(Contract):
    """What the record says of it: entry is the digest of that line; aliases, versions, unloaded are lists in words."""

    adapter_id: str
    weights: str
    entry: str
    at: int
    who: str
    aliases: str
    versions: str
    unloaded: str


class Receipt(Contract):
    """endpoint "": none was asked. dataset_after "": the dataset was not changed, and to_do says why. ended_at None:
    something stopped it, and the same command goes on.
    """

    schema_version: Literal[1] = 1
    asked: Asked
    found: Found
    endpoint: str = ""
    withdrawn: tuple[WithdrawnAdapter, ...] = ()
    left: tuple[str, ...] = ()
    dataset_after: str = ""
    to_do: tuple[str, ...] = ()
    ended_at: int | None = None
    seal: str = ""


def begin(home: Home, asked: Asked, found: Found) -> tuple[Path, Receipt]:
    """The folder of the receipt and what is in it: one that was begun for the same request, or a new one."""
    for folder in sorted(home.withdrawals.glob(f"*-{asked.request()}"), reverse=True):
        receipt = _read(folder)
        if receipt is not None and receipt.ended_at is None:
            known = {adapter.weights for adapter in receipt.found.adapters}
            new = tuple(adapter for adapter in found.adapters if adapter.weights not in known)
            both = receipt.found.model_copy(update={"adapters": (*receipt.found.adapters, *new)})
            note(f"Going on with {folder / RECEIPT_NAME}, which was not ended.")
            return folder, write(folder, receipt.model_copy(update={"found": both}))
    folder = _free_folder(home, asked)
    return folder, write(folder, Receipt(asked=asked, found=found))


def _free_folder(home: Home, asked: Asked) -> Path:
    for second in count(asked.at):
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(second))
        folder = home.withdrawals / f"{moment}-{asked.request()}"
        if not folder.exists():
            return folder
    raise AssertionError("seconds do not end")


def write(folder: Path, receipt: Receipt) -> Receipt:
    """Write both files; the JSON, which is what counts, last."""
    found = sealed(receipt)
    write_text(folder / TEXT_NAME, receipt_text(found))
    write_json(folder / RECEIPT_NAME, found)
    return found


def _read(folder: Path) -> Receipt | None:
    path = folder / RECEIPT_NAME
    try:
        receipt = read_model(path, Receipt, error=RunError, hint="")
        check_seal(receipt, path, error=RunError, hint="")
    except InputError as error:
        note(f"Not looked at: {error.message}")
        return None
    return receipt
