"""The gated delta rule and its causal convolution in plain torch: the library's results, from few large products.

Source: the chunked ("WY") form of the gated delta rule as in `torch_chunk_gated_delta_rule` of transformers'
`models/qwen3_5/modeling_qwen3_5.py`, after "Gated Delta Networks" (arXiv 2412.06464).

Maths. Per head, with state S (key size x value size), decay a_t = exp(g_t), write strength b_t, key k_t, value v_t:

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T          o_t = S_t^T q_t / sqrt(key size)

Inside a chunk, with G the running sum of g and D_ij = exp(G_i - G_j) for j <= i, the unit lower triangular system
(I + tril(diag(b) K K^T * D, -1)) [U W] = diag(b) [V  exp(G) K] is solved once for all chunks. A chunk then acts on the
state as one affine map

    S_next = (exp(G_last) I - K~^T W) S + K~^T U,                  K~_i = exp(G_last - G_i) K_i

so the only sequential part is one small product per chunk; the outputs exp(G) Q S + (Q K^T * D)(U - W S) follow for
all chunks at once. The library multiplies four times per chunk inside the loop, and its slice assignments make autograd
write a full-size gradient for every chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch.nn import functional as F

# Measured on an AVX-512 CPU at 256 to 1024 tokens: 32 beats 16 and 64, as work inside a chunk grows with its length.
CHUNK_TOKENS = 32
L2_NORM_EPS = 1e-6


def chunk_gated_delta_rule(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    chunk_size: int = CHUNK_TOKENS,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The gated delta rule over whole sequences; the library's signature and result, in float32 inside.

    query, key: [batch, tokens, key heads, key size]; value: [batch, tokens, value heads, value size]; g (log decay,
    at most 0) and beta: [batch, tokens, value heads]; initial_state: [batch, value heads, key size, value size].
    Returns the output [batch, tokens, value heads, value size] in query's dtype, and the final state (float32) or None.
    `cu_seqlens` [rows + 1] holds where the rows of a packed sequence begin, and its end: each begins with an empty
    state. Raises ValueError for packed rows in a batch or with a state from before.
    """
    cu_seqlens = kwargs.get("cu_seqlens")
    if cu_seqlens is not None and (query.shape[0] != 1 or initial_state is not None):
        raise ValueError("packed rows take one batch entry, and no state from before")
    dtype, num_tokens = query.dtype, query.shape[1]
    layout = _Layout.of(num_tokens, chunk_size, None if cu_seqlens is None else cu_seqlens.tolist())
    groups = value.shape[2] // key.shape[2]
    with torch.autocast(device_type="cuda" if query.is_cuda else "cpu", enabled=False):
        query, key, value, beta, g = (x.float().transpose(1, 2) for x in (query, key, value, beta, g))
        if use_qk_l2norm_in_kernel:
            query, key = _unit_length(query), _unit_length(key)
        query = query * query.shape[-1] ** -0.5
        if groups > 1:
            query, key = (x.repeat_interleave(groups, dim=1) for x in (query, key))
        chunked = _Chunks(query, key, value, g, beta, layout=layout)
        output, state = chunked.run(initial_state)
    output = layout.joined(output).transpose(1, 2).to(dtype, memory_format=torch.contiguous_format)
    return output, state if output_final_state else None


@dataclass(frozen=True)
class _Layout:
    """Where tokens lie in chunks: each row begins with a chunk of its own, and what is left of its last one is padding.

    Padding has key, value, write strength and log decay 0: it neither reads, writes nor fades the state. places gives
    each token's place, None for one row, whose padding is all at the end. first holds the chunks that begin a row.
    """

    num_tokens: int
    chunk_size: int
    num_chunks: int
    places: torch.Tensor | None
    first: frozenset[int]

    @classmethod
    def of(cls, num_tokens: int, chunk_size: int, borders: Sequence[int] | None) -> "_Layout":
        """borders: where rows begin, and the end of the last; None for one row."""
        lengths = [num_tokens] if borders is None else [end - start for start, end in pairwise(borders)]
        chunks = [-(-length // chunk_size) for length in lengths]
        starts = [0, *accumulate(chunks)]
        places = None
        if len(lengths) > 1:
            begins = zip(starts[:-1], lengths, strict=True)
            places = torch.cat([torch.arange(first * chunk_size, first * chunk_size + size) for first, size in begins])
        return cls(num_tokens, chunk_size, starts[-1], places, frozenset(starts[:-1]))

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, heads, tokens, ...] to [batch, heads, chunks, chunk, ...]."""
        size = self.num_chunks * self.chunk_size
        if self.places is None:
            padded = F.pad(x, (*(0, 0) * (x.ndim - 3), 0, size - self.num_tokens))
        else:
            padded = x.new_zeros(*x.shape[:2], size, *x.shape[3:]).index_copy(2, self.places.to(x.device), x)
        return padded.unflatten(2, (self.num_chunks, self.chunk_size))

    def joined(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, heads, padded tokens, size] to [batch, heads, tokens, size]."""
        if self.places is None:
            return x[:, :, : self.num_tokens]
        return x.index_select(2, self.places.to(x.device))


class _Chunks:
    """One sequence cut into chunks; shapes are [batch, heads, chunks, chunk, size]."""

    def __init__(self, query: Any, key: Any, value: Any, g: Any, beta: Any, *, layout: _Layout) -> None:
        chunk_size, self._first = layout.chunk_size, layout.first
        self.query, self.key, value, g, beta = (layout.spread(x) for x in (query, key, value, g, beta))
        self.running = g.cumsum(-1)
        upper = torch.ones(chunk_size, chunk_size, dtype=torch.bool, device=g.device).triu(1)
        # Masked before exp: above the diagonal the difference is positive and may overflow.
        difference = (self.running.unsqueeze(-1) - self.running.unsqueeze(-2)).masked_fill(upper, float("-inf"))
        self.pair_decay = difference.exp()
        transposed = self.key.transpose(-1, -2)
        beta = beta.unsqueeze(-1)
        system = (self.key @ transposed) * self.pair_decay * beta
        right_side = torch.cat((value * beta, self.key * (beta * self.running.exp().unsqueeze(-1))), dim=-1)
        solved = torch.linalg.solve_triangular(system, right_side, upper=False, unitriangular=True)
        self.new_values, self.state_reads = solved.split((value.shape[-1], key.shape[-1]), dim=-1)
        self.attention = (self.query @ transposed) * self.pair_decay

    def run(self, initial_state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs [batch, heads, tokens, value size] and the state after the last chunk."""
        states, last = self._scan(initial_state)
        corrected = self.new_values - self.state_reads @ states
        output = (self.query * self.running.exp().unsqueeze(-1)) @ states + self.attention @ corrected
        return output.flatten(2, 3), last

    def _scan(self, initial_state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The state before each chunk [batch, heads, chunks, key size, value size], and the one after the last."""
        batch, heads, _, _, key_size = self.key.shape
        total = self.running[..., -1:]
        writes = (self.key * (total - self.running).exp().unsqueeze(-1)).transpose(-1, -2)
        identity = torch.eye(key_size, dtype=writes.dtype, device=writes.device)
        maps = total.exp().unsqueeze(-1) * identity - writes @ self.state_reads
        added = writes @ self.new_values
        if initial_state is None:
            state = added.new_zeros(batch * heads, key_size, added.shape[-1])
        else:
            state = initial_state.to(added).flatten(0, 1)
        states = []
        # unbind, not indexing: its backward is one stack instead of one full-size zero tensor per chunk.
        both = zip(maps.flatten(0, 1).unbind(1), added.flatten(0, 1).unbind(1), strict=True)
        for place, (chunk_map, addition) in enumerate(both):
            if place and place in self._first:
                state = torch.zeros_like(state)
            states.append(state)
            state = torch.baddbmm(addition, chunk_map, state)
        return torch.stack(states, dim=1).unflatten(0, (batch, heads)), state.unflatten(0, (batch, heads))


def causal_conv1d(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """The depthwise causal convolution as shifted multiply-adds; the library's signature and result.

    hidden_states: [batch, channels, tokens]; weight: [channels, kernel]; `seq_idx` [batch, tokens] numbers the rows of
    a packed sequence, of which none sees another. Channels are summed in the layout the projection wrote them in
    (tokens outer), which saves the two transposed copies that conv1d makes.
    """
    seq_idx = kwargs.get("seq_idx")
    num_tokens, kernel = hidden_states.shape[-1], weight.shape[-1]
    padded = F.pad(hidden_states.transpose(1, 2).to(weight.dtype), (0, 0, kernel - 1, 0))
    shifted = [padded[:, shift : shift + num_tokens] for shift in range(kernel)]
    if seq_idx is not None:
        # before the first token no row is numbered -1
        numbers = F.pad(seq_idx, (kernel - 1, 0), value=-1)
        same = (numbers[:, shift : shift + num_tokens] == seq_idx for shift in range(kernel))
        shifted = [part * own[..., None] for part, own in zip(shifted, same, strict=True)]
    mixed = sum(part * weight[:, shift] for shift, part in enumerate(shifted))
    if bias is not None:
        mixed = mixed + bias
    if activation is not None:
        mixed = {"silu": F.silu, "swish": F.silu}[activation](mixed)
    return mixed.to(hidden_states.dtype).transpose(1, 2)


def _unit_length(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt((x * x).sum(dim=-1, keepdim=True) + L2_NORM_EPS)
