"""The training forward of the Qwen3.5 text architecture, over the library model's own parameters.

The library's forward carries caches, masks and packing, which a compiler for the CPU cannot fuse across. This one knows
only whole, unpadded rows from position zero, so each layer compiles to a handful of loops around its matrix products.
It adds no parameter; a test holds it to the library's logits.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from finetune.model.gated_delta import causal_conv1d, chunk_gated_delta_rule

# Logits of this many tokens at once: 8,192 entries of float32 each stay inside a CPU's last-level cache.
TOKENS_PER_LOSS_TILE = 512


class TrainingForward:
    """Token ids [rows, tokens] -> final hidden states [rows, tokens, hidden], products in `dtype`."""

    def __init__(self, model: Any, *, dtype: torch.dtype = torch.bfloat16, compiled: bool = True) -> None:
        self.model, self.dtype = model, dtype
        self.layer_kinds = list(model.config.layer_types)
        kinds = {"linear_attention": _linear_layer, "full_attention": _attention_layer}
        self.run_layer = {name: _prepared(function, compiled=compiled) for name, function in kinds.items()}
        self.tile_slope = _prepared(_tile_slope, compiled=compiled)

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        inner = self.model.model
        hidden = inner.embed_tokens(ids)
        positions = torch.arange(ids.shape[1], device=ids.device).expand(3, 1, -1)
        cos, sin = (x[0] for x in inner.rotary_emb(hidden, positions))
        for kind, layer in zip(self.layer_kinds, inner.layers, strict=True):
            mixer = layer.linear_attn if kind == "linear_attention" else layer.self_attn
            outside = ("mlp", "input", "post")
            weights = dict(mixer.named_parameters()) | {
                f"layer.{name}": value for name, value in layer.named_parameters() if name.startswith(outside)
            }
            heads = mixer.head_v_dim if kind == "linear_attention" else mixer.head_dim
            hidden = self.run_layer[kind](hidden, weights, heads, cos, sin, self.dtype)
        return _norm(hidden, inner.norm.weight)

    def loss(self, ids: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Mean negative log-likelihood in nats of ids[:, 1:] given what precedes each.

        weights [rows, tokens - 1] say how much each target counts in the mean; None counts all alike.
        """
        hidden = self(ids[:, :-1])
        targets = ids[:, 1:].flatten()
        shares = torch.ones(len(targets)) if weights is None else weights.flatten()
        shares = shares / shares.sum()
        return TiledLoss.apply(
            hidden.flatten(0, 1), self.model.lm_head.weight, targets, shares, self.dtype, self.tile_slope
        )


class TiledLoss(torch.autograd.Function):
    """Cross entropy of a tied or untied head whose logits exist for one tile of tokens at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        shares: torch.Tensor,
        dtype: torch.dtype,
        tile_slope: Any,
    ) -> torch.Tensor:
        """hidden [tokens, size], weight [vocabulary, size], targets and shares [tokens] -> mean loss in nats.

        shares, which sum to 1, are the targets' parts in the mean. tile_slope is _tile_slope, compiled or as it is.
        """
        low, weight_low = hidden.detach().to(dtype), weight.detach().to(dtype)
        total = hidden.new_zeros((), dtype=torch.float32)
        hidden_grad = torch.empty_like(low)
        # The gradient leaves with the loss: the tile's probabilities are at hand now and nowhere later.
        slopes = torch.empty(len(low), len(weight), dtype=dtype) if weight.requires_grad else None
        for start in range(0, len(low), TOKENS_PER_LOSS_TILE):
            tile = slice(start, start + TOKENS_PER_LOSS_TILE)
            loss, slope = tile_slope(low[tile] @ weight_low.t(), targets[tile], shares[tile])
            total += loss
            hidden_grad[tile] = slope @ weight_low
            if slopes is not None:
                slopes[tile] = slope
        weight_grad = (slopes.t() @ low).to(weight.dtype) if slopes is not None else None
        ctx.save_for_backward(hidden_grad.to(hidden.dtype), weight_grad)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scales what the forward kept."""
        hidden_grad, weight_grad = ctx.saved_tensors
        return hidden_grad * grads[0], None if weight_grad is None else weight_grad * grads[0], None, None, None, None


def _prepared(function: Callable[..., Any], *, compiled: bool) -> Callable[..., Any]:
    # compiled on demand: the import of the compiler alone takes seconds
    return torch.compile(function, dynamic=False, fullgraph=True) if compiled else function


def _tile_slope(logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scores = logits.float()
    normal = torch.logsumexp(scores, dim=-1, keepdim=True)
    loss = ((normal.squeeze(1) - scores.gather(1, targets.unsqueeze(1)).squeeze(1)) * shares).sum()
    vocabulary = torch.arange(scores.shape[1], device=scores.device)
    hit = (vocabulary.unsqueeze(0) == targets.unsqueeze(1)).float()
    return loss, (((scores - normal).exp() - hit) * shares.unsqueeze(1)).to(logits.dtype)


def _linear_layer(
    hidden: torch.Tensor, weights: Any, size: int, cos: torch.Tensor, sin: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    normal = _norm(hidden, weights["layer.input_layernorm.weight"]).to(dtype)
    value_size = weights["in_proj_z.weight"].shape[0]
    key_size = (weights["in_proj_qkv.weight"].shape[0] - value_size) // 2
    mixed = _linear(normal, weights["in_proj_qkv.weight"]).transpose(1, 2)
    mixed = causal_conv1d(mixed.float(), weights["conv1d.weight"].squeeze(1), None, "silu").transpose(1, 2)
    query, key, value = (x.unflatten(-1, (-1, size)) for x in mixed.split((key_size, key_size, value_size), dim=-1))
    beta = _linear(normal, weights["in_proj_b.weight"]).float().sigmoid()
    rate = _linear(normal, weights["in_proj_a.weight"]).float() + weights["dt_bias"]
    g = -weights["A_log"].exp() * F.softplus(rate)
    output, _ = chunk_gated_delta_rule(query, key, value, g, beta, use_qk_l2norm_in_kernel=True)
    gate = _linear(normal, weights["in_proj_z.weight"]).unflatten(-1, (-1, size)).float()
    output = output * torch.rsqrt(output.pow(2).mean(-1, keepdim=True) + 1e-6) * weights["norm.weight"] * F.silu(gate)
    hidden = hidden + _linear(output.flatten(2).to(dtype), weights["out_proj.weight"]).to(hidden.dtype)
    return hidden + _mlp(hidden, weights, dtype)


def _attention_layer(
    hidden: torch.Tensor, weights: Any, size: int, cos: torch.Tensor, sin: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    normal = _norm(hidden, weights["layer.input_layernorm.weight"]).to(dtype)
    query, gate = _linear(normal, weights["q_proj.weight"]).unflatten(-1, (-1, 2 * size)).chunk(2, dim=-1)
    key, value = (_linear(normal, weights[f"{x}_proj.weight"]).unflatten(-1, (-1, size)) for x in "kv")
    query = _rotate(_norm(query.float(), weights["q_norm.weight"]).transpose(1, 2), cos, sin).to(dtype)
    key = _rotate(_norm(key.float(), weights["k_norm.weight"]).transpose(1, 2), cos, sin).to(dtype)
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value.transpose(1, 2)))
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2)
    mixed = (mixed.float() * gate.float().sigmoid()).flatten(2).to(dtype)
    hidden = hidden + _linear(mixed, weights["o_proj.weight"]).to(hidden.dtype)
    return hidden + _mlp(hidden, weights, dtype)


def _mlp(hidden: torch.Tensor, weights: Any, dtype: torch.dtype) -> torch.Tensor:
    normal = _norm(hidden, weights["layer.post_attention_layernorm.weight"]).to(dtype)
    gate = _linear(normal, weights["layer.mlp.gate_proj.weight"]).float()
    up = _linear(normal, weights["layer.mlp.up_proj.weight"]).float()
    return _linear((F.silu(gate) * up).to(dtype), weights["layer.mlp.down_proj.weight"]).to(hidden.dtype)


def _linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weight.to(x.dtype))


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + weight)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    width = cos.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    first, second = turned.chunk(2, dim=-1)
    return torch.cat((turned * cos + torch.cat((-second, first), dim=-1) * sin, rest), dim=-1)
