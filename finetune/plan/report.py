"""A plan as one document: memory by phase, time, what would make it fit; as JSON and as text for a person."""

from collections.abc import Sequence
from typing import Literal

from finetune.contracts.adapter import Quantization
from finetune.contracts.dataset import Contract
from finetune.plan.changes import Carrier, Change, carriers, changes_that_fit, longest_row, weight_bytes
from finetune.plan.machine import GIB, RESERVE_BYTES, Card
from finetune.plan.memory import Phase, Workload, checkpoint_bytes, host_bytes, phases
from finetune.plan.shape import ModelShape
from finetune.plan.speed import HIGH_UTILISATION, LOW_UTILISATION, Flops, tokens_per_second, training_flops

SMALL_BASE = 1_000_000_000
# How a figure was come by. Nothing here is measured: a run on the card compares its peak with the plan.
Basis = Literal["calculated"]
CALCULATED: Basis = "calculated"


class PlannedItem(Contract):
    """One thing in memory."""

    name: str
    gib: float
    basis: Basis = CALCULATED


class PlannedPhase(Contract):
    """The worst moment of a phase."""

    name: str
    peak_gib: float
    fits: bool
    items: tuple[PlannedItem, ...]
    basis: Basis = CALCULATED


class PlannedCard(Contract):
    """The card. usable_gib is what a run may take; peak_tflops the dense bfloat16 peak, None where unknown."""

    name: str
    memory_mib: int
    usable_gib: float
    peak_tflops: float | None


class PlannedBase(Contract):
    """Numbers of the base and of the adapter, and what the base takes in 4 bit (where a map may be) and in 16 bit."""

    parameters: int
    linear_parameters: int
    embedding_parameters: int
    adapter_parameters: int
    gib_4bit: float
    gib_16bit: float


class PlannedTime(Contract):
    """How long training takes, on all cards of the recipe together.

    Two figures are the slow and the fast end, None where the card's speed is unknown.

    gflops are billions of operations per token, by part; num_tokens is the run's, None where no dataset is known.
    """

    row_tokens: int
    gflops: dict[str, float]
    gflops_per_token: float
    tokens_per_second: tuple[float, float] | None
    hours_per_million_tokens: tuple[float, float] | None
    num_tokens: int | None
    hours: tuple[float, float] | None
    basis: Basis = CALCULATED


class PlannedChange(Contract):
    """A change that, with those before it, leads to a plan that fits."""

    set: tuple[str, ...]
    cost: str
    saves_gib: float
    peak_gib: float
    basis: Basis = CALCULATED


class PlannedCarrier(Contract):
    """Cards that hold the base together."""

    cards: int
    name: str
    quantization: str
    basis: Basis = CALCULATED


class Plan(Contract):
    """What a recipe needs on a card. changes is filled when it does not fit, carriers when no change makes it fit."""

    recipe: str
    card: PlannedCard
    base: PlannedBase
    fits: bool
    peak_gib: float
    longest_row_that_fits: int
    phases: tuple[PlannedPhase, ...]
    host_memory_gib: float
    checkpoint_gib: float
    time: PlannedTime
    changes: tuple[PlannedChange, ...]
    carriers: tuple[PlannedCarrier, ...]
    notes: tuple[str, ...]
    basis: Basis = CALCULATED


def make_plan(
    shape: ModelShape,
    work: Workload,
    card: Card,
    *,
    recipe: str,
    num_tokens: int | None = None,
    mean_row: float | None = None,
    notes: Sequence[str] = (),
) -> Plan:
    """Plan a workload. recipe is its name.

    num_tokens and mean_row are the dataset's, None without one: rows count as of the longest then.
    """
    found = phases(shape, work)
    fits = all(phase.peak <= card.usable_bytes for phase in found)
    changes = () if fits else changes_that_fit(shape, work, card)
    row = mean_row or float(work.row_tokens)
    flops = training_flops(
        shape, targets=work.targets, rank=work.rank, row_tokens=row, checkpointing=work.checkpointing
    )
    return Plan(
        recipe=recipe,
        card=PlannedCard(
            name=card.name,
            memory_mib=card.memory_mib,
            usable_gib=gib(card.usable_bytes),
            peak_tflops=card.peak_tflops,
        ),
        base=PlannedBase(
            parameters=shape.parameters,
            linear_parameters=shape.map_parameters,
            embedding_parameters=shape.vocabulary_parameters,
            adapter_parameters=shape.adapter_parameters(work.targets, work.rank),
            gib_4bit=gib(weight_bytes(shape, work, Quantization.NF4)),
            gib_16bit=gib(weight_bytes(shape, work, Quantization.NONE)),
        ),
        fits=fits,
        peak_gib=gib(max(phase.peak for phase in found)),
        longest_row_that_fits=longest_row(shape, work, card),
        phases=tuple(_phase(phase, card) for phase in found),
        host_memory_gib=gib(host_bytes(shape, work)),
        checkpoint_gib=gib(checkpoint_bytes(shape, work)),
        time=_time(flops, card, cards=work.cards, num_tokens=num_tokens, row_tokens=round(row)),
        changes=tuple(_change(change) for change in changes),
        carriers=tuple(map(_carrier, () if fits or changes else carriers(shape, work))),
        notes=(*notes, *_notes(shape, work, card)),
    )


def gib(size: float) -> float:
    """Bytes as GiB with three decimals."""
    return round(size / GIB, 3)


def _phase(phase: Phase, card: Card) -> PlannedPhase:
    items = tuple(PlannedItem(name=item.name, gib=gib(item.size)) for item in phase.items)
    return PlannedPhase(name=phase.name, peak_gib=gib(phase.peak), fits=phase.peak <= card.usable_bytes, items=items)


def _change(change: Change) -> PlannedChange:
    return PlannedChange(set=change.sets, cost=change.cost, saves_gib=gib(change.saves), peak_gib=gib(change.peak))


def _carrier(carrier: Carrier) -> PlannedCarrier:
    return PlannedCarrier(cards=carrier.cards, name=carrier.name, quantization=carrier.quantization)


def _time(flops: Flops, card: Card, *, cards: int, num_tokens: int | None, row_tokens: int) -> PlannedTime:
    speeds = None
    if card.peak_tflops is not None:
        slow, fast = (
            cards * tokens_per_second(flops.total, card.peak_tflops, share)
            for share in (LOW_UTILISATION, HIGH_UTILISATION)
        )
        speeds = (round(slow, 1), round(fast, 1))
    parts = {
        "body": flops.body,
        "head": flops.head,
        "adapter": flops.adapter,
        "attention": flops.attention,
        "linear attention": flops.linear_attention,
    }
    return PlannedTime(
        row_tokens=row_tokens,
        gflops={name: round(value / 1e9, 2) for name, value in parts.items()},
        gflops_per_token=round(flops.total / 1e9, 2),
        tokens_per_second=speeds,
        hours_per_million_tokens=_hours(1e6, speeds),
        num_tokens=num_tokens,
        hours=_hours(num_tokens, speeds),
    )


def _hours(num_tokens: float | None, speeds: tuple[float, float] | None) -> tuple[float, float] | None:
    if num_tokens is None or speeds is None:
        return None
    slow, fast = (round(num_tokens / speed / 3600, 2) for speed in speeds)
    return slow, fast


def _notes(shape: ModelShape, work: Workload, card: Card) -> list[str]:
    found = [f"{gib(RESERVE_BYTES):.1f} GiB of the card are left to the desktop and to the allocator's gaps."]
    if any(layer.fast != layer.plain for layer in shape.layers):
        slow = max(layer.plain.backward for layer in shape.layers) * work.step_tokens
        fast = max(layer.fast.backward for layer in shape.layers) * work.step_tokens
        told = "counted with" if work.fast_kernels else "counted without"
        found.append(
            f"Linear attention is {told} the kernels of flash-linear-attention: the live layer takes {gib(fast):.2f} "
            f"GiB with them and {gib(slow):.2f} without."
        )
    if work.cards > 1:
        holds = "its part of each layer, and embedding and head whole" if work.sharded else "the whole base"
        found.append(
            f"Each of the {work.cards} cards needs all of this, for each holds {holds}; the speed is that of all, "
            "without what they wait for each other."
        )
    if card.peak_tflops is None:
        found.append("The speed of this card is not known: name one, such as --card 4090, for the time.")
    elif shape.parameters < SMALL_BASE:
        found.append("The share of the peak is that of bases of billions of parameters; small ones wait for the CPU.")
    if any(maps.experts > 1 for maps in shape.maps):
        found.append("Fused experts are counted in the quantization of the recipe.")
    return found
