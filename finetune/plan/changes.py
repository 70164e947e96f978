"""What to change so that a recipe fits: cheapest first, each computed by planning anew."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from finetune.contracts.adapter import Quantization
from finetune.plan.machine import CARDS, Card
from finetune.plan.memory import EVALUATION, Phase, Workload, base_items, phases
from finetune.plan.shape import ModelShape

# Rows are cropped to a multiple of this, and never proposed shorter than the least
ROW_STEP, LEAST_ROW = 256, 512
LEAST_RANK = 4
# Many cards share the weights only; each keeps its own activations and buffers
SHARED_SHARE = 0.85
MOST_CARDS = 16


@dataclass(frozen=True)
class Change:
    """One change of the recipe. sets are values for --set; cost says what it takes in exchange.

    peak is the highest phase in bytes once this change and those before it are made, saves what it took off.
    """

    sets: tuple[str, ...]
    cost: str
    peak: int
    saves: int


@dataclass(frozen=True)
class Carrier:
    """A number of cards whose memory together holds the base and leaves room for the work.

    quantization is that of the base on them: "nf4" or "none".
    """

    cards: int
    name: str
    quantization: str


def peak(shape: ModelShape, work: Workload) -> int:
    """Bytes of the highest phase."""
    return max(phase.peak for phase in phases(shape, work))


def longest_row(shape: ModelShape, work: Workload, card: Card) -> int:
    """The longest row that fits, in tokens: a multiple of 256; 0 when not even the shortest does."""
    low, high = 0, 262_144 // ROW_STEP
    while low < high:
        middle = (low + high + 1) // 2
        fits = peak(shape, replace(work, row_tokens=middle * ROW_STEP)) <= card.usable_bytes
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * ROW_STEP


def changes_that_fit(shape: ModelShape, work: Workload, card: Card) -> tuple[Change, ...]:
    """The first changes, cheapest first, that together make it fit; empty when all of them do not.

    A change is passed over when no phase that is too large gets smaller by it.
    """
    made: list[Change] = []
    before = phases(shape, work)
    for propose in PROPOSALS:
        proposal = propose(shape, work, card)
        if proposal is None:
            continue
        changed, sets, cost = proposal
        after = phases(shape, changed)
        if _excess(after, card) >= _excess(before, card):
            continue
        saves = max(old.peak - new.peak for old, new in zip(before, after, strict=True))
        made.append(Change(sets, cost, peak=max(phase.peak for phase in after), saves=saves))
        if not _excess(after, card):
            return tuple(made)
        work, before = changed, after
    return ()


def _excess(found: Sequence[Phase], card: Card) -> int:
    """Bytes by which all phases together are too large."""
    return sum(max(0, phase.peak - card.usable_bytes) for phase in found)


def carriers(shape: ModelShape, work: Workload) -> tuple[Carrier, ...]:
    """Single cards on which the workload fits as it is, and how many of each kind share the base in 16 bit.

    Kinds of which more than 16 are needed are left out. A base in 4 bit is not shared: bitsandbytes' packed weights
    come out of FSDP2 with wrong bits (bitsandbytes issue 1945).
    """
    found = [Carrier(1, card.name, str(work.quantization)) for card in CARDS if peak(shape, work) <= card.usable_bytes]
    weights = weight_bytes(shape, work, Quantization.NONE)
    for card in CARDS:
        count = max(2, -(-weights // int(card.usable_bytes * SHARED_SHARE)))
        if count <= MOST_CARDS:
            found.append(Carrier(count, card.name, str(Quantization.NONE)))
    return tuple(found)


def weight_bytes(shape: ModelShape, work: Workload, quantization: Quantization) -> int:
    """What the base takes in this quantization, its embedding included."""
    loaded = replace(work, quantization=quantization, sharded=False)
    return sum(item.size for item in base_items(shape, loaded, loading=True))


Proposal = tuple[Workload, tuple[str, ...], str]


def _fewer_eval_rows(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    rows = work.eval_rows
    while rows > 1 and _evaluation_peak(shape, replace(work, eval_rows=rows)) > card.usable_bytes:
        rows //= 2
    if rows == work.eval_rows:
        return None
    return replace(work, eval_rows=rows), (f"evaluate.batch_rows={rows}",), "a slower evaluation, the same scores"


def _evaluation_peak(shape: ModelShape, work: Workload) -> int:
    return next(phase.peak for phase in phases(shape, work) if phase.name == EVALUATION)


def _smaller_micro_batch(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    if work.micro_batch == 1:
        return None
    rows = work.micro_batch * work.accumulation
    sets = ("train.micro_batch=1", f"train.accumulation={rows}")
    return replace(work, micro_batch=1, accumulation=rows), sets, "shorter passes; the steps stay as they are"


def _paged_optimizer(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    if work.optimizer != "adamw":
        return None
    name = "paged_adamw_8bit"
    return replace(work, optimizer=name), (f"train.optimizer={name}",), "states in 8 bit; no known loss of quality"


def _offload(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    if work.offload or not work.checkpointing:
        return None
    cost = "1 to 3 % of the time, and host memory"
    return replace(work, offload=True), ("train.activation_offload=true",), cost


def _checkpointing(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    if work.checkpointing:
        return None
    return replace(work, checkpointing=True), ("train.activation_checkpointing=true",), "half as much time again"


def _embedding(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    if work.embedding_on_host or shape.tied:
        return None
    cost = "a copy of the rows' vectors in each pass, and host memory"
    return replace(work, embedding_on_host=True), ("base.embedding_on_host=true",), cost


def _shard(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    if work.sharded or work.cards == 1 or work.quantization is not Quantization.NONE:
        return None
    cost = "each layer travels between the cards in each pass"
    return replace(work, sharded=True), ("train.sharding=fsdp2",), cost


def _quantise(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    if work.quantization is not Quantization.NONE:
        return None
    cost = "a base that is rounded to 4 bit"
    whole = ("train.sharding=none",) if work.sharded else ()
    return replace(work, quantization=Quantization.NF4, sharded=False), ("base.quantization=nf4", *whole), cost


def _shorter_rows(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    tokens = longest_row(shape, work, card)
    if not LEAST_ROW <= tokens < work.row_tokens:
        return None
    return replace(work, row_tokens=tokens), (f"data.max_tokens={tokens}",), "longer rows are cropped or left out"


def _lower_rank(shape: ModelShape, work: Workload, card: Card) -> Proposal | None:
    rank = work.rank
    while rank // 2 >= LEAST_RANK:
        rank //= 2
        if peak(shape, replace(work, rank=rank)) <= card.usable_bytes:
            break
    if rank == work.rank:
        return None
    return replace(work, rank=rank), (f"lora.rank={rank}",), "less room to learn"


# In order of cost. Offload stands before checkpointing is switched on only where that is on already. Shorter rows are
# tried again at the end, where a lower rank may have made room for them.
PROPOSALS: tuple[Callable[[ModelShape, Workload, Card], Proposal | None], ...] = (
    _fewer_eval_rows,
    _smaller_micro_batch,
    _paged_optimizer,
    _offload,
    _embedding,
    _checkpointing,
    _offload,
    _shard,
    _quantise,
    _shorter_rows,
    _lower_rank,
    _shorter_rows,
)
