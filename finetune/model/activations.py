"""Memory that the layers of a model take in training, found by running them on the meta device, where nothing is held.

Each kind of layer is run forward and backward with adapters on it, at two lengths; a watcher adds up the storages that
are alive after each operation. The slope is bytes per token. Two kernels that only a GPU has are stood in for:

- attention keeps queries, keys, values, outputs and one float per head and token, as FlashAttention does (arXiv
  2205.14135);
- the gated delta rule keeps and makes what `chunk_gated_delta_rule` of flash-linear-attention does: normalised queries
  and keys, values, gates and a matrix of 64 x 64 per chunk and head; in backward, states and their gradients per chunk,
  and float32 gradients of queries and keys per value head.

Found so on the sizes of Qwen3.6-27B, with adapters on all linear maps: 386 KB per token live in a layer of full
attention, 445 in one of Gated DeltaNet, 956 with this project's PyTorch code in place of the kernel. Of these, forward
keeps 296, 355 and 866; a real forward on a CPU, without adapters, was measured to keep 289 in a layer of full attention
and 798 in one of Gated DeltaNet without the kernel.
"""

import inspect
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from finetune.model.delta_layers import CONVOLUTION, DELTA_RULE, OWN, Functions, rebind_forward
from finetune.plan.shape import Activations

# Multiples of every chunk length; long enough for what does not grow with them to drop out of the difference
SHORT_ROW, LONG_ROW = 512, 1024
CHUNK = 64
ATTENTION_NAME = "planned"


def measure_layers(
    model: Any, layers: Sequence[nn.Module], *, targets: Sequence[str], rank: int
) -> list[tuple[Activations, Activations]]:
    """For each of the layers of a model on the meta device: what it takes with fused kernels, and without them.

    The layers are changed: adapters of this rank are put on their targets. Weights in 4 bit keep for backward what
    weights in 16 bit keep, so the base need not be quantised for this.
    """
    # Never the library's own choice: that is a GPU's kernel where one is installed, and meta tensors have no memory
    with _delta_functions(model, OWN):
        calls = {length: _calls(model, layers, length) for length in (SHORT_ROW, LONG_ROW)}
        for layer in layers:
            _adapt(layer, targets, rank)
        plain = [_per_token(layer, calls) for layer in layers]
    with _delta_functions(model, {DELTA_RULE: _delta_rule, CONVOLUTION: _convolution}):
        fast = [_per_token(layer, calls) for layer in layers]
    return list(zip(fast, plain, strict=True))


def _adapt(layer: nn.Module, targets: Sequence[str], rank: int) -> None:
    """Freeze the layer and put adapters on those of the targets that it has."""
    from peft import LoraConfig, inject_adapter_in_model

    layer.requires_grad_(False)
    linear = {name.rpartition(".")[2] for name, part in layer.named_modules() if isinstance(part, nn.Linear)}
    if present := [target for target in targets if target in linear]:
        inject_adapter_in_model(LoraConfig(r=rank, target_modules=present), layer)
        layer.to(torch.bfloat16)
    layer.train()


Call = tuple[tuple[Any, ...], dict[str, Any]]


class _AllCalled(Exception):
    """The rest of the model need not run."""


def _calls(model: Any, layers: Sequence[nn.Module], length: int) -> dict[int, Call]:
    """The arguments with which the model calls each of the layers for one row of this length."""
    found: dict[int, Call] = {}

    def record(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found[id(layer)] = (args, kwargs)
        if len(found) == len(layers):
            raise _AllCalled

    hooks = [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad(), _planned_attention(model), suppress(_AllCalled):
            model.base_model(input_ids=torch.zeros(1, length, dtype=torch.long, device="meta"), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _per_token(layer: nn.Module, calls: dict[int, dict[int, Call]]) -> Activations:
    short, long = (_run(layer, calls[length][id(layer)]) for length in (SHORT_ROW, LONG_ROW))
    rise = [(more - less) / (LONG_ROW - SHORT_ROW) for less, more in zip(short, long, strict=True)]
    return Activations(saved=rise[0], backward=rise[1], forward=rise[2])


def _run(layer: nn.Module, call: Call) -> tuple[int, int, int]:
    """Bytes that forward leaves alive, that are alive at the worst moment, and at that of a forward that keeps none."""
    args, kwargs = call
    hidden = args[0].detach().requires_grad_()
    kwargs = {**kwargs, "use_cache": False, "past_key_values": None}
    with torch.no_grad(), _Watcher(layer, hidden) as alone:
        layer(hidden, *args[1:], **kwargs)
    with _Watcher(layer, hidden) as watcher:
        output = layer(hidden, *args[1:], **kwargs)
        output = output[0] if isinstance(output, tuple) else output
        saved = watcher.alive - output.untyped_storage().nbytes()
        output.backward(torch.empty_like(output))
    return saved, watcher.peak, alone.peak


class _Watcher(TorchDispatchMode):
    """Adds up the storages that operations make, for as long as they live. Parameters and the input do not count."""

    def __init__(self, layer: nn.Module, hidden: torch.Tensor) -> None:
        super().__init__()
        self.alive = self.peak = 0
        known = [hidden, *layer.parameters(), *layer.buffers()]
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet(tensor.untyped_storage() for tensor in known)
        self._known = known

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.alive -= size


@contextmanager
def _planned_attention(model: Any) -> Iterator[None]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, _attention)
    model.config._attn_implementation = ATTENTION_NAME
    yield


def _attention(module: nn.Module, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> tuple[Any, None]:
    """query [batch, heads, tokens, size]; returns [batch, tokens, heads, value size], and no scores."""
    return _FlashAttention.apply(query, key, value).transpose(1, 2).contiguous(), None


class _FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any) -> Any:
        output = query.new_empty(*query.shape[:3], value.shape[-1])
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:3], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


@contextmanager
def _delta_functions(model: Any, functions: Functions) -> Iterator[None]:
    """Inside, layers whose forward calls the gated delta rule by the library's name call these."""
    changed = []
    for module in model.modules():
        code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
        if code is not None and DELTA_RULE in code.co_names:
            rebind_forward(module, functions)
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _delta_rule(query: Any, key: Any, value: Any, *, g: Any, beta: Any, **kwargs: Any) -> tuple[Any, None]:
    return _DeltaRule.apply(query, key, value, g, beta), None


class _DeltaRule(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, g: Any, beta: Any) -> Any:
        batch, tokens, heads, _ = value.shape
        kept = [torch.empty_like(query), torch.empty_like(key), value, torch.empty_like(g), beta]
        within = value.new_empty(batch, tokens, heads, CHUNK)
        working = _States(value, key.shape[-1])
        ctx.save_for_backward(*kept, within)
        del working
        return torch.empty_like(value)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        query, key, value, g, beta, _ = ctx.saved_tensors
        again, states = _States(value, key.shape[-1]), _States(value, key.shape[-1])
        per_head = (*value.shape[:3], key.shape[-1])
        wide = [value.new_empty(per_head, dtype=torch.float32) for _ in range(2)]
        del again, states
        last = [value.new_empty(per_head, dtype=torch.float32), torch.empty_like(value), torch.empty_like(beta)]
        del wide
        return torch.empty_like(query), torch.empty_like(key), last[1], torch.empty_like(g), last[2]


class _States:
    """What the scan over chunks makes: decayed keys and new values per token, and a state per chunk and head."""

    def __init__(self, value: Any, key_size: int) -> None:
        batch, tokens, heads, value_size = value.shape
        self.keys = value.new_empty(batch, tokens, heads, key_size)
        self.values = torch.empty_like(value)
        self.per_chunk = value.new_empty(batch, tokens // CHUNK, heads, key_size, value_size)


def _convolution(hidden: Any, *args: Any, **kwargs: Any) -> Any:
    return _Convolution.apply(hidden)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Any) -> Any:
        ctx.save_for_backward(hidden)
        return torch.empty_like(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return torch.empty_like(gradient)
