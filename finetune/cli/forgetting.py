"""What `finetune data forget` does once it was told to: withdraw, take out of the dataset, write the receipt."""

import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from data_pipelines.lineage.lineage_text import done_text
from data_pipelines.lineage.removal import Removal, check_removal
from data_pipelines.lineage.removal import forget as take_out
from data_pipelines.lineage.seen import Trained
from finetune.contracts.errors import DatasetError
from finetune.contracts.run import Home
from finetune.release.receipt import RECEIPT_NAME, TEXT_NAME, Asked, Found, FoundAdapter, begin, write
from finetune.release.receipt_text import STAYS
from finetune.release.withdraw import Why, withdraw
from finetune.terminal.output import printable, table


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for; key is the home's, None if it has none. who "": the user of the system."""

    home: Home
    removal: Removal
    key: bytes | None
    apply: bool
    only_certain: bool
    endpoint: str
    who: str

    @property
    def adapters(self) -> tuple[Trained, ...]:
        """Those that --apply withdraws."""
        return tuple(item for item in self._adapters() if item.certainty == "saw it" or not self.only_certain)

    @property
    def left(self) -> tuple[str, ...]:
        """Ids of those that --only-certain leaves as they are."""
        return tuple(item.name for item in self._adapters() if item not in self.adapters)

    def _adapters(self) -> list[Trained]:
        return [item for item in self.removal.trained if item.kind == "adapter"]


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, for --json and for a person."""

    document: dict[str, object]
    text: str


def hindrance(order: Order) -> str:
    """Why the dataset cannot be written without it, "" if it can. Raises DatasetError unless there is more to do."""
    try:
        check_removal(order.removal)
    except DatasetError as error:
        if not order.apply:
            raise
        return f"{error.message} {error.hint}"
    return ""


def plan_text(order: Order) -> str:
    """What --apply does beside, "" without it."""
    if not order.apply:
        return ""
    rows = [(item.name, printable(item.state) or "not live", item.certainty) for item in order.adapters]
    if not rows:
        return "No adapter of this home learned from it: none is withdrawn."
    where = f" and off {order.endpoint}" if order.endpoint else ""
    return f"Withdrawn, off every alias{where}\n\n{table(rows)}\n\n{STAYS}"


def carry_out(order: Order, *, to_do: Sequence[str]) -> Done:
    """Withdraw where asked, take it out of the dataset, and write the receipt."""
    if not order.apply:
        document, text = _take_out(order)
        return Done(document, text)
    if order.endpoint:
        _served(order.endpoint)
    folder, receipt = begin(order.home, _asked(order), _found(order))
    why = Why(receipt.asked.who, f"forgotten: {_subject(order)}")
    withdrawn = withdraw(order.home, receipt.found.adapters, why=why, unload=lambda found: _unload(order, found))
    blocked = hindrance(order)
    document, text = ({}, blocked) if blocked else _take_out(order)
    ended = receipt.model_copy(
        update={
            "endpoint": order.endpoint,
            "withdrawn": tuple(withdrawn),
            "left": order.left,
            "dataset_after": str(document.get("digest_after", "")),
            "to_do": (*((blocked,) if blocked else ()), *to_do),
            "ended_at": int(time.time()),
        }
    )
    write(folder, ended)
    names = ", ".join(one.adapter_id for one in withdrawn) or "no adapter"
    document |= {"withdrawn": [one.model_dump(mode="json") for one in withdrawn], "receipt": str(folder / RECEIPT_NAME)}
    return Done(document, f"Withdrawn: {names}.\n\n{text}\n\nThe receipt is {folder / TEXT_NAME}.")


def _take_out(order: Order) -> tuple[dict[str, object], str]:
    made, pruned = take_out(order.removal, home=order.home, key=order.key)
    document: dict[str, object] = {
        "digest_after": made.content_digest,
        "store": asdict(pruned) if pruned else None,
    }
    return document, done_text(order.removal.folder, made, pruned, home=order.home.data)


def _asked(order: Order) -> Asked:
    import getpass

    return Asked(
        dataset=str(order.removal.folder.resolve()),
        forget=order.removal.subject.names(),
        only_certain=order.only_certain,
        who=order.who or getpass.getuser(),
        at=int(time.time()),
    )


def _found(order: Order) -> Found:
    removal = order.removal
    return Found(
        dataset_digest=removal.manifest.content_digest,
        rows=removal.num_rows,
        other_datasets={str(other.folder): other.digest for other in removal.others},
        runs={item.name: item.dataset_digest for item in removal.trained if item.kind == "run"},
        adapters=tuple(
            FoundAdapter(
                adapter_id=item.name,
                weights=item.weights,
                run_id=item.run_id,
                folder=str(item.folder),
                dataset_digest=item.dataset_digest,
                certainty=item.certainty,
            )
            for item in order.adapters
        ),
    )


def _subject(order: Order) -> str:
    return ", ".join(f"{kind} {name}" for kind, names in order.removal.subject.names().items() for name in names)


def _unload(order: Order, weights: Collection[str]) -> dict[str, list[str]]:
    """Take adapters of these weights off the endpoint; the names they were served under, by weights."""
    from serving.client import call

    names: dict[str, list[str]] = {}
    for name, found in _served(order.endpoint) if order.endpoint else ():
        if found in weights:
            call(order.endpoint, "/v1/unload_lora_adapter", expects="name", body={"lora_name": name})
            names.setdefault(found, []).append(name)
    return names


def _served(url: str) -> list[tuple[str, str]]:
    """Name and weights of each adapter that is served at url. Raises MachineError when no server answers."""
    from serving.client import call

    cards = call(url, "/v1/adapters", expects="available")["data"]
    return [(card["name"], card["weights_digest"]) for card in cards]
