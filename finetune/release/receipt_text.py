"""A receipt as a person reads it."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetune.terminal.output import printable, table

if TYPE_CHECKING:
    from finetune.release.receipt import Receipt

SHOWN_DIGITS = 12
STAYS = (
    "A withdrawn adapter stays on disk, as evidence, until you delete its folder. It is not served, promoted or\n"
    "evaluated again in this home. There is no way back: train again on a dataset that does not hold it."
)


def receipt_text(receipt: "Receipt") -> str:
    """The whole receipt on a page."""
    asked, found = receipt.asked, receipt.found
    names = [(kind, printable(name)) for kind, listed in asked.forget.items() for name in listed]
    parts = [
        f"Asked on {_moment(asked.at)} by {printable(asked.who)}: forget, in {asked.dataset}",
        table(names),
        f"Found: {found.rows:,} rows in the dataset with digest {found.dataset_digest}",
        _section("Other datasets", [(digest, folder) for folder, digest in found.other_datasets.items()]),
        _section("Runs, with the digest of what they learned from", [(d, name) for name, d in found.runs.items()]),
        _section(
            "Adapters, with the digests of weights and dataset",
            [(one.adapter_id, one.weights, one.dataset_digest, one.certainty) for one in found.adapters],
        ),
        *_withdrawn(receipt),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _withdrawn(receipt: "Receipt") -> list[str]:
    if receipt.ended_at is None:
        return ["Not ended: something stopped it. Type the same command again, which goes on from here."]
    rows = [
        (
            one.adapter_id,
            _moment(one.at),
            printable(one.who),
            one.versions or "not registered",
            one.aliases or "none",
            one.unloaded or ("none" if receipt.endpoint else "no endpoint asked"),
            one.entry[:SHOWN_DIGITS],
        )
        for one in receipt.withdrawn
    ]
    header = ("adapter", "at", "by", "versions", "aliases taken", "no longer served as", "entry of the record")
    after = receipt.dataset_after
    return [
        "Withdrawn\n\n" + table(rows, header=header) if rows else "No adapter was withdrawn.",
        _section("Left as they were: they only may have seen it", [(name,) for name in receipt.left]),
        f"The dataset was written anew without it: digest {after}" if after else "The dataset was not changed.",
        STAYS if rows else "",
        "Still to be done\n\n" + "\n".join(f"  {line}" for line in receipt.to_do) if receipt.to_do else "",
        f"Ended on {_moment(receipt.ended_at)}.",
    ]


def _section(title: str, rows: Sequence[Sequence[str]]) -> str:
    return f"{title}\n\n{table(rows)}" if rows else ""


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
