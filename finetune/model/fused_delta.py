"""Gated DeltaNet's two functions on a GPU by the Triton kernels of flash-linear-attention, once they are proven there.

Its kernels have been wrong without a word on some pairs of card and Triton (fla issues 640, 945, 999), so they are
compared with this project's own delta rule, output and gradients, before a model may use them. That happens in a
process of its own, for two reasons: a kernel that fails takes its process' CUDA context with it; and the first time on
a machine each kernel is tuned, which loads candidates that spill, and the driver keeps the memory of the worst for as
long as the process lives (7 GiB were seen on an H100). The choice is kept on disk, where training finds it.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch

from finetune.model.gated_delta import causal_conv1d, chunk_gated_delta_rule
from finetune.terminal.output import note

PACKAGE = "fla"
# Rows of the proof, in tokens: no multiple of a chunk; together a small pass, since kernels are tuned on them
PROOF_TOKENS = (445, 670, 933)
# Tuning took two minutes on 16 cores
TIMEOUT_SECONDS = 1800
# The kernels multiply in bfloat16, which rounds to 1 part in 256; a wrong kernel is off by tens of percent
TOLERANCE = 0.03
CONVOLUTION_SIZE = 4

Rule = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]
Convolution = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class DeltaHeads:
    """The sizes of a Gated DeltaNet layer's heads; kernels are tuned to them."""

    num_keys: int
    num_values: int
    key_size: int
    value_size: int

    @property
    def channels(self) -> int:
        """Of the convolution, which runs over queries, keys and values."""
        return 2 * self.num_keys * self.key_size + self.num_values * self.value_size


def fused_delta_rule(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As gated_delta.chunk_gated_delta_rule, in the inputs' own precision."""
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule as kernel

    output, state = kernel(
        query,
        key,
        value,
        g=g,
        beta=beta,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
        cu_seqlens=_borders(kwargs.get("cu_seqlens"), query),
    )
    return output, state


def fused_causal_conv1d(
    hidden_states: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """As gated_delta.causal_conv1d; packed rows are told apart by `cu_seq_lens_q` [rows + 1], as attention's are."""
    from fla.modules.causal_conv1d import causal_conv1d as kernel

    mixed, _ = kernel(
        hidden_states.transpose(1, 2).contiguous(),
        weight=weight,
        bias=bias,
        activation=activation,
        cu_seqlens=_borders(kwargs.get("cu_seq_lens_q"), hidden_states.transpose(1, 2)),
    )
    return mixed.transpose(1, 2)


def _borders(given: torch.Tensor | None, rows: torch.Tensor) -> torch.Tensor | None:
    """Where rows begin and end, for one row by itself too: kernels with and without are tuned apart.

    rows are [batch, tokens, ...]; several padded rows have no borders.
    """
    if given is not None or rows.shape[0] != 1:
        return given
    return _whole(rows.shape[1], rows.device)


# The kernels know borders again by identity
@lru_cache(maxsize=64)
def _whole(num_tokens: int, device: torch.device) -> torch.Tensor:
    return torch.tensor([0, num_tokens], dtype=torch.int32, device=device)


def fused_problem(heads: DeltaHeads) -> str:
    """Why the kernels may not be used for such a layer on this machine's GPU, "" when they may."""
    if find_spec(PACKAGE) is None:
        return "the package flash-linear-attention is not installed"
    note("Proving the kernels of Gated DeltaNet; the first time on a machine they are tuned, which takes minutes.")
    command = [sys.executable, "-m", __name__, *map(str, astuple(heads))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        errors = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return f"flash-linear-attention was not proven within {TIMEOUT_SECONDS // 60} minutes"
    except (IndexError, ValueError):
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return f"flash-linear-attention does not run here: {said[-1]}"
    return problem_of(errors)


def problem_of(errors: Mapping[str, float]) -> str:
    """What is wrong with kernels that are off by so much, "" for nothing."""
    worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
    # not "greater": NaN must fail too
    return "" if errors[worst] <= TOLERANCE else f"flash-linear-attention's {worst} is off by {errors[worst]:.1%}"


def compare_kernels(heads: DeltaHeads, device: torch.device) -> dict[str, float]:
    """How far the kernels are from the reference on three packed rows: outputs and gradients, as shares of the norm."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, torch.bfloat16)

    tokens = sum(PROOF_TOKENS)
    ends = torch.tensor([0, *PROOF_TOKENS], device=device).cumsum(0).to(torch.int32)
    owners = torch.repeat_interleave(torch.arange(len(PROOF_TOKENS)), torch.tensor(PROOF_TOKENS)).to(device)[None]
    inputs = {
        "query": drawn(1, tokens, heads.num_keys, heads.key_size),
        "key": drawn(1, tokens, heads.num_keys, heads.key_size),
        "value": drawn(1, tokens, heads.num_values, heads.value_size),
        # decays between 0.4 and 1, and write strengths between 0 and 1, as in trained models
        "g": -drawn(1, tokens, heads.num_values).float().sigmoid(),
        "beta": drawn(1, tokens, heads.num_values).sigmoid(),
    }
    mixing = {
        "mixed": drawn(1, tokens, heads.channels).transpose(1, 2),
        "weight": drawn(heads.channels, CONVOLUTION_SIZE),
    }

    def rule(run: Rule, given: dict[str, torch.Tensor]) -> torch.Tensor:
        return run(*given.values(), use_qk_l2norm_in_kernel=True, cu_seqlens=ends)[0]

    def convolution(run: Convolution, given: dict[str, torch.Tensor]) -> torch.Tensor:
        return run(*given.values(), activation="silu", cu_seq_lens_q=ends, seq_idx=owners)

    return {
        **_errors("delta rule", rule, (fused_delta_rule, chunk_gated_delta_rule), inputs),
        **_errors("convolution", convolution, (fused_causal_conv1d, causal_conv1d), mixing),
    }


Call = Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]


def _errors(name: str, call: Call, pair: tuple[Any, Any], inputs: dict[str, torch.Tensor]) -> dict[str, float]:
    found, expected = (_outcome(call, run, inputs) for run in pair)
    names = [name, *(f"{name}'s gradient of {part}" for part in inputs)]
    return {part: _share(one, other) for part, one, other in zip(names, found, expected, strict=True)}


def _outcome(call: Call, run: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The output, and the gradient of each input for a loss that weighs every number of the output differently."""
    given = {name: part.detach().clone().requires_grad_() for name, part in inputs.items()}
    output = call(run, given)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.device)
    (output.float() * weights).sum().backward()
    return [output.detach(), *(part.grad for part in given.values() if part.grad is not None)]


def _share(found: torch.Tensor, expected: torch.Tensor) -> float:
    difference = found.float() - expected.float()
    return float(difference.norm() / expected.float().norm())


def main() -> None:
    """Print the errors of the kernels on this machine's GPU as JSON; arguments are the numbers of DeltaHeads."""
    heads = DeltaHeads(*map(int, sys.argv[1:]))
    print(json.dumps(compare_kernels(heads, torch.device("cuda"))))  # noqa: T201  the parent reads it


if __name__ == "__main__":
    main()
