"""Time of a training run: floating-point operations per token, and what share of a card's peak runs reach."""

from dataclasses import dataclass

from finetune.plan.shape import LayerShape, ModelShape

# Shares of the dense bfloat16 peak that published single-card runs of this size reach; the lower is a safe plan
LOW_UTILISATION, HIGH_UTILISATION = 0.35, 0.50
# A product costs 2 operations per weight; backward through a frozen weight costs as much as forward (no gradient of it)
PER_WEIGHT = 2
# Backward of a trained weight costs twice: the gradient of its input and its own
TRAINED_BACKWARD = 2
# FlashAttention's backward is two and a half times its forward (arXiv 2205.14135)
ATTENTION_BACKWARD = 2.5
STATE_BACKWARD = 2


@dataclass(frozen=True)
class Flops:
    """Operations per trained token, by part. again: those of them that compute once more what was there before."""

    body: float
    head: float
    adapter: float
    attention: float
    linear_attention: float
    again: float = 0.0

    @property
    def total(self) -> float:
        """All that are carried out: what hardware FLOP utilisation counts."""
        return self.body + self.head + self.adapter + self.attention + self.linear_attention

    @property
    def needed(self) -> float:
        """Those of one forward and one backward pass: what model FLOP utilisation counts (PaLM, arXiv 2204.02311)."""
        return self.total - self.again


def training_flops(
    shape: ModelShape,
    *,
    targets: tuple[str, ...],
    rank: int,
    row_tokens: float,
    checkpointing: bool,
    scored_share: float = 1.0,
) -> Flops:
    """Operations per token of rows of row_tokens, of a frozen base with an adapter.

    With checkpointing the layers run forward twice: 6 operations per weight of the base, 4 without. The fused head
    computes its tiles again in backward either way; scored_share is the share of the tokens that go through it.
    """
    forwards = 2 if checkpointing else 1
    body = PER_WEIGHT * sum(maps.active_parameters for maps in shape.maps)
    head = PER_WEIGHT * shape.vocabulary_parameters * scored_share
    factors = sum(rank * (maps.inputs + maps.outputs) * maps.active * maps.count for maps in shape.adapted(targets))
    adapter = PER_WEIGHT * factors
    attention = sum(_attention(layer, row_tokens) for layer in shape.layers)
    state = sum(layer.state_flops * layer.count for layer in shape.layers)
    return Flops(
        body=body * (forwards + 1),
        head=head * 3,
        adapter=adapter * (forwards + TRAINED_BACKWARD),
        attention=attention * (forwards + ATTENTION_BACKWARD),
        linear_attention=state * (forwards + STATE_BACKWARD),
        again=head + (forwards - 1) * (body + adapter + attention + state),
    )


def _attention(layer: LayerShape, row_tokens: float) -> float:
    """One forward pass of one token on average: scores and values over the half of the row that it may see."""
    seen = row_tokens / 2 if layer.window is None else min(row_tokens / 2, layer.window)
    return 2 * 2 * seen * layer.attention_width * layer.count


def delta_rule_flops(*, heads: int, key_size: int, value_size: int, chunk: int = 64) -> float:
    """One forward pass per token of the chunked gated delta rule (arXiv 2412.06464), over all value heads.

    Per head and token: the state is read twice and written once; within a chunk, keys meet keys and queries, a
    triangular system is solved for keys and values, and scores are multiplied with values.
    """
    state = 3 * PER_WEIGHT * key_size * value_size
    inside = PER_WEIGHT * chunk * (2 * key_size + (key_size + value_size) / 2 + value_size)
    return heads * (state + inside)


def tokens_per_second(flops_per_token: float, peak_tflops: float, utilisation: float) -> float:
    """Tokens that a card of this peak trains on in a second."""
    return peak_tflops * 1e12 * utilisation / flops_per_token
