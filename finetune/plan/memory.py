"""Memory of a training run on one card, itemised by phase. Every figure is calculated; nothing is loaded."""

from collections.abc import Iterable
from dataclasses import dataclass

from finetune.contracts.adapter import Quantization
from finetune.plan.shape import Activations, LayerShape, LinearMaps, ModelShape

BF16, FP32 = 2, 4
# bitsandbytes, NF4 with double quantization: 4 bits per weight; one scale per 64 weights, held in 8 bits; one float32
# scale per 256 of those, and one float32 offset for each tensor.
NF4_BLOCK, NF4_NESTED_BLOCK = 64, 256
# bitsandbytes, 8-bit AdamW: two states of one byte and a float32 maximum per 256 numbers in each; tensors below 4,096
# numbers keep float32 states (optim/optimizer.py, min_8bit_size).
ADAM8_BLOCK, ADAM8_SMALLEST = 256, 4096
# A CUDA context with cuBLAS and the kernels that are loaded; between 0.4 and 0.9 GiB on drivers of 2024 to 2026
CONTEXT_BYTES = int(0.70 * 2**30)
# The same once the kernels of flash-linear-attention have run: 2.1 to 2.8 GiB on an H100 (docs/benchmarks.md)
FUSED_CONTEXT_BYTES = int(2.8 * 2**30)
# A 4-bit matrix is written out in bfloat16 before it is multiplied, and the next one before the last is freed
DEQUANTISED_COPIES = 2
# trl/kernels/chunked_logprob.py: tokens x entries of the vocabulary that exist at once in the fused head
TILE_TOKENS, TILE_ENTRIES = 4096, 32_768
# finetune/model/scoring.py: positions whose logits exist at once (16 bit, 32 bit, and their log-softmax)
SCORED_POSITIONS, SCORED_BYTES = 512, BF16 + FP32 + FP32
LONGEST_STEP, EVALUATION = "longest step", "evaluation"
CONTEXT, STATES = "CUDA context and libraries", "optimiser states"
# of each pair of tokens: a byte, and a 16-bit bias for the kernel
MASK, MASK_BYTES = "attention mask", 1 + BF16
# FSDP2: the layer at hand and the one that is fetched meanwhile
GATHERED_LAYERS = 2
# Offloaded checkpoints: the layer at hand's and the one on its way
OFFLOADED_STAY = 2


@dataclass(frozen=True)
class Workload:
    """What a recipe asks of the card. row_tokens: of the longest row; eval_rows: scored or generated at once.

    packed: the rows of a forward pass share one sequence, as long as micro_batch of the longest. keep_16bit and targets
    are last parts of module names. fast_kernels: whether linear attention has its fused kernels. cards share
    the passes of a step; each holds all that one would, but where the base is sharded its part of each layer alone.
    """

    quantization: Quantization
    keep_16bit: tuple[str, ...]
    targets: tuple[str, ...]
    rank: int
    optimizer: str
    row_tokens: int
    micro_batch: int
    packed: bool
    accumulation: int
    checkpointing: bool
    offload: bool
    embedding_on_host: bool
    eval_rows: int
    new_tokens: int
    fast_kernels: bool = True
    cards: int = 1
    sharded: bool = False

    @property
    def step_tokens(self) -> int:
        """Tokens of one forward pass whose rows are all of the longest."""
        return self.row_tokens * self.micro_batch


@dataclass(frozen=True)
class Item:
    """One thing that takes memory. size is in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Phase:
    """What is on the card at the worst moment of a phase."""

    name: str
    items: tuple[Item, ...]

    @property
    def peak(self) -> int:
        """Bytes."""
        return sum(item.size for item in self.items)


def phases(shape: ModelShape, work: Workload) -> tuple[Phase, ...]:
    """Loading, the first and the longest step, evaluation, and saving, in this order."""
    base, adapter = base_items(shape, work), adapter_items(shape, work)
    weights, gradients, _ = adapter
    buffer = dequantised(shape, work)
    context = Item(CONTEXT, context_bytes(shape, work))
    gathered = Item("layers gathered from all cards", _gathered(shape, work))
    step = step_items(shape, work)
    # Optimiser states are made when the first step ends. Tensors are quantised on the card, one after the other, and
    # the embedding moves to the host only once all are there.
    loading = base_items(shape, work, loading=True)
    largest = max((maps.tensor_parameters for maps in _quantised(shape, work)), default=0)
    whole = Item("one tensor before it is quantised", largest * BF16)
    return (
        Phase("load", _present([*loading, whole, Item(CONTEXT, CONTEXT_BYTES)])),
        Phase("first step", _present([*base, gathered, weights, gradients, buffer, context, *step])),
        Phase(LONGEST_STEP, _present([*base, gathered, *adapter, buffer, context, *step])),
        Phase(EVALUATION, _present([*base, gathered, *adapter, buffer, context, *evaluation_items(shape, work)])),
        Phase("save", _present([*base, *adapter, context])),
    )


def context_bytes(shape: ModelShape, work: Workload) -> int:
    """What the card holds outside the allocator while it trains."""
    fused = work.fast_kernels and any(layer.fast != layer.plain for layer in shape.layers)
    return FUSED_CONTEXT_BYTES if fused else CONTEXT_BYTES


def base_items(shape: ModelShape, work: Workload, *, loading: bool = False) -> list[Item]:
    """The weights of the base; loading is the moment before the embedding goes to the host."""
    quantised = _quantised(shape, work)
    plain = shape.map_parameters - sum(maps.parameters for maps in quantised) + shape.other_parameters
    embedding = 0 if work.embedding_on_host and not loading else shape.vocabulary_parameters * BF16
    return [
        Item("base, 4-bit", sum(nf4_bytes(maps.tensor_parameters) * maps.count for maps in quantised)),
        Item("base, kept in 16 bit", -(-plain // (work.cards if work.sharded else 1)) * BF16),
        Item("embedding", embedding),
        Item("head", 0 if shape.tied else shape.vocabulary_parameters * BF16),
    ]


def _gathered(shape: ModelShape, work: Workload) -> int:
    """Bytes of the layers that are whole on a card for a moment, where each card holds a part of every layer."""
    return GATHERED_LAYERS * shape.largest_layer * BF16 if work.sharded else 0


def nf4_bytes(parameters: int) -> int:
    """Bytes of one tensor in NF4 with double quantization."""
    scales = -(-parameters // NF4_BLOCK)
    return -(-parameters // 2) + scales + -(-scales // NF4_NESTED_BLOCK) * FP32 + FP32


def adapter_items(shape: ModelShape, work: Workload) -> list[Item]:
    """The adapter in float32: weights, gradients, optimiser states."""
    numbers = shape.adapter_parameters(work.targets, work.rank)
    states = sum(
        optimizer_bytes(tensor, work.optimizer) * maps.count
        for maps in shape.adapted(work.targets)
        for tensor in maps.adapter_tensors(work.rank)
    )
    return [
        Item("adapter weights", numbers * FP32),
        Item("adapter gradients", numbers * FP32),
        Item(STATES, states),
    ]


def optimizer_bytes(numbers: int, optimizer: str) -> int:
    """Bytes of both states of AdamW for a tensor; what is paged counts as on the card, where it is when used."""
    if optimizer == "adamw" or numbers < ADAM8_SMALLEST:
        return numbers * 2 * FP32
    return numbers * 2 + 2 * FP32 * -(-numbers // ADAM8_BLOCK)


def dequantised(shape: ModelShape, work: Workload) -> Item:
    """Where 4-bit matrices are written out to be multiplied; of fused experts one at a time (model/experts.py)."""
    largest = max((maps.matrix_parameters for maps in _quantised(shape, work)), default=0)
    return Item("dequantised matrices", largest * BF16 * DEQUANTISED_COPIES)


def step_items(shape: ModelShape, work: Workload) -> list[Item]:
    """What the tokens of one forward and backward pass take, at the worst moment."""
    tokens = work.step_tokens
    live = max(_activations(layer, work).backward for layer in shape.layers)
    kept = shape.hidden * BF16 * shape.num_layers
    if not work.checkpointing:
        # What the live layer saved is among what all layers keep, so only its gradients come on top
        kept = round(sum(_activations(layer, work).saved * layer.count for layer in shape.layers))
        live = max(_activations(layer, work).backward - _activations(layer, work).saved for layer in shape.layers)
    elif work.offload:
        kept = shape.hidden * BF16 * OFFLOADED_STAY
    # The loss and a layer's backward do not meet: the larger counts
    return [
        Item("layer checkpoints" if work.checkpointing else "activations of all layers", kept * tokens),
        Item("live layer in backward, or loss tiles", max(round(live * tokens), loss_bytes(shape, tokens))),
        # packed rows are kept apart by a mask over the one sequence, padded ones by a mask for each
        packed_mask_item(work.step_tokens) if work.packed else mask_item(work.micro_batch, work.row_tokens),
    ]


def loss_bytes(shape: ModelShape, tokens: int) -> int:
    """The fused head's tile of logits, and the gradient of the last hidden states in 32 and in 16 bit."""
    tile = min(tokens, TILE_TOKENS) * min(shape.vocabulary, TILE_ENTRIES) * BF16
    return tile + tokens * shape.hidden * (FP32 + BF16)


def mask_item(rows: int, row_tokens: int) -> Item:
    """Rows of unlike length need a mask of tokens x tokens each; one row alone needs none."""
    return Item(MASK, 0 if rows == 1 else rows * row_tokens**2 * MASK_BYTES)


def packed_mask_item(tokens: int) -> Item:
    """A sequence of several rows needs a mask of tokens x tokens."""
    return Item(MASK, tokens**2 * MASK_BYTES)


def evaluation_items(shape: ModelShape, work: Workload) -> list[Item]:
    """Scoring or generating for eval_rows of the longest rows, nothing kept for backward."""
    tokens = work.eval_rows * work.row_tokens
    live = round(max(_activations(layer, work).forward for layer in shape.layers) * tokens)
    positions = min(tokens, SCORED_POSITIONS) * shape.vocabulary * SCORED_BYTES
    # Scoring holds the last hidden states twice: all of them, and those that are learned
    scoring = positions + 2 * tokens * shape.hidden * BF16
    cache = work.eval_rows * (work.row_tokens + work.new_tokens) * shape.cache_bytes if work.new_tokens else 0
    return [
        Item("live layer in forward, or scores", max(live, scoring)),
        Item("keys and values of generated text", cache),
        mask_item(work.eval_rows, work.row_tokens),
    ]


def host_bytes(shape: ModelShape, work: Workload) -> int:
    """Pinned memory of the host: offloaded checkpoints, and the embedding where it lives there."""
    checkpoints = shape.hidden * BF16 * shape.num_layers * work.step_tokens
    embedding = shape.vocabulary_parameters * BF16
    return (checkpoints if work.checkpointing and work.offload else 0) + (embedding if work.embedding_on_host else 0)


def checkpoint_bytes(shape: ModelShape, work: Workload) -> int:
    """What one checkpoint takes on disk: the adapter and its optimiser states."""
    weights, _, states = adapter_items(shape, work)
    return weights.size + states.size


def _activations(layer: LayerShape, work: Workload) -> Activations:
    return layer.fast if work.fast_kernels else layer.plain


def _quantised(shape: ModelShape, work: Workload) -> tuple[LinearMaps, ...]:
    if work.quantization is Quantization.NONE:
        return ()
    return tuple(maps for maps in shape.maps if maps.name not in work.keep_16bit)


def _present(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(item for item in items if item.size)
