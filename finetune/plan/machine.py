"""Cards: how much memory they report and how fast they multiply, from a table or from a size such as 24GiB."""

import re
from dataclasses import dataclass

from finetune.contracts.errors import UsageError

MIB = 2**20
GIB = 2**30
# Left to the desktop and to what the allocator cannot use between its blocks
RESERVE_BYTES = GIB
# A card sold as 24 GB reports this much to nvidia-smi, 12 MiB less than its name says
SOLD_AS_24GB_MIB = 24_564


@dataclass(frozen=True)
class Card:
    """One GPU. memory_mib is what nvidia-smi reports; peak_tflops the dense bfloat16 peak, None where unknown.

    sold_gb is the size that it is sold with, None for one that is not in the table.
    """

    name: str
    memory_mib: int
    peak_tflops: float | None
    sold_gb: int | None = None

    @property
    def usable_bytes(self) -> int:
        """What a run may take of it."""
        return max(0, self.memory_mib * MIB - RESERVE_BYTES)


# Memory as nvidia-smi reports it. Peaks: NVIDIA's data sheets and architecture whitepapers, dense bfloat16 products
# with float32 sums, no sparsity; the GeForce cards run those at half the rate of float16 sums.
CARDS: tuple[Card, ...] = (
    Card("3090", SOLD_AS_24GB_MIB, 71.0, 24),
    Card("4090", SOLD_AS_24GB_MIB, 165.0, 24),
    Card("5090", 32_607, 209.5, 32),
    Card("A100-40GB", 40_960, 312.0, 40),
    Card("L40S", 46_068, 362.0, 48),
    Card("A100-80GB", 81_920, 312.0, 80),
    Card("H100", 81_559, 989.0, 80),
    Card("H200", 143_771, 989.0, 141),
)
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(m|g)i?b", re.IGNORECASE)


def parse_card(text: str) -> Card:
    """The card called text, such as 4090 or a100-80gb, or one of a size such as 24GiB, whose speed is not known.

    Cards are sold in GB and have GiB, so both spell 2^30 bytes. Raises UsageError with the names in the table.
    """
    key = _key(text)
    named = [card for card in CARDS if key == _key(card.name)]
    if named:
        return named[0]
    size = SIZE.fullmatch(text.strip())
    if size:
        memory_mib = round(float(size[1]) * (1024 if size[2].lower() == "g" else 1))
        return Card(text.strip(), SOLD_AS_24GB_MIB if memory_mib == 24 * 1024 else memory_mib, None)
    known = ", ".join(card.name for card in CARDS)
    raise UsageError(f"--card {text!r} is neither a card that is known here nor a size.", f"Give {known}, or 24GiB.")


def smallest_sold_as(gigabytes: int) -> Card:
    """Of the cards in the table that are sold with so much memory, the one that reports least: 48 GB may be 44.99 GiB.

    Raises UsageError where the table has none.
    """
    sold = [card for card in CARDS if card.sold_gb == gigabytes]
    if not sold:
        known = ", ".join(str(size) for size in sorted({card.sold_gb for card in CARDS if card.sold_gb}))
        raise UsageError(f"No card that is known here is sold with {gigabytes} GB.", f"Known sizes: {known}.")
    return min(sold, key=lambda card: card.memory_mib)


def recognise(name: str, memory_mib: int) -> Card:
    """The card that a driver calls name, with the memory that it reports; the peak is None for one not in the table."""
    words = _key(name)
    near = [card for card in CARDS if _key(card.name).removesuffix("40gb").removesuffix("80gb") in words]
    return Card(name, memory_mib, near[0].peak_tflops if near else None)


def _key(name: str) -> str:
    plain = re.sub(r"[\s_-]", "", name.lower()).removeprefix("nvidia").removeprefix("geforce").removeprefix("rtx")
    return re.sub(r"^(a100)(40|80)$", r"\1\2gb", plain)
