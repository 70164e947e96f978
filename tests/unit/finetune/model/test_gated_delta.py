"""The fast delta rule gives the library's results, forward, backward, from a state, and inside a model."""

from itertools import pairwise

import pytest
import torch

from finetune.model.delta_layers import FUSED, rebind_forward, use_fast_delta_rule, uses_fused_kernels
from finetune.model.gated_delta import causal_conv1d, chunk_gated_delta_rule
from finetune.model.quiet import quiet_libraries


def draw(num_tokens: int, *, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    batch, key_heads, value_heads, size = 2, 2, 4, 16
    return {
        "query": torch.randn(batch, num_tokens, key_heads, size),
        "key": torch.randn(batch, num_tokens, key_heads, size),
        "value": torch.randn(batch, num_tokens, value_heads, size),
        "g": -torch.rand(batch, num_tokens, value_heads),
        "beta": torch.rand(batch, num_tokens, value_heads),
    }


def step_by_step(query, key, value, g, beta, state=None):
    """The recurrence as the paper writes it, one token after the other."""
    query, key = (torch.nn.functional.normalize(x, dim=-1, eps=1e-6) for x in (query, key))
    groups = value.shape[2] // key.shape[2]
    query, key = (x.repeat_interleave(groups, dim=2) for x in (query, key))
    batch, num_tokens, heads, size = value.shape
    state = torch.zeros(batch, heads, size, size) if state is None else state
    outputs = []
    for t in range(num_tokens):
        state = state * g[:, t].exp()[..., None, None]
        error = value[:, t] - torch.einsum("bhk,bhkv->bhv", key[:, t], state)
        state = state + torch.einsum("bhk,bhv->bhkv", key[:, t], error * beta[:, t][..., None])
        outputs.append(torch.einsum("bhk,bhkv->bhv", query[:, t], state) * size**-0.5)
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("num_tokens", [1, 31, 32, 33, 100])
def test_it_is_the_recurrence_of_the_paper(num_tokens):
    tensors = draw(num_tokens)
    output, state = chunk_gated_delta_rule(**tensors, output_final_state=True, use_qk_l2norm_in_kernel=True)
    expected, expected_state = step_by_step(**tensors)
    torch.testing.assert_close(output, expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(state, expected_state, atol=1e-4, rtol=1e-3)


def test_two_halves_joined_by_the_state_are_the_whole():
    tensors = draw(80)
    whole, _ = chunk_gated_delta_rule(**tensors, use_qk_l2norm_in_kernel=True)
    first = {name: value[:, :37] for name, value in tensors.items()}
    second = {name: value[:, 37:] for name, value in tensors.items()}
    begin, state = chunk_gated_delta_rule(**first, output_final_state=True, use_qk_l2norm_in_kernel=True)
    end, _ = chunk_gated_delta_rule(**second, initial_state=state, use_qk_l2norm_in_kernel=True)
    torch.testing.assert_close(torch.cat((begin, end), dim=1), whole, atol=1e-4, rtol=1e-3)


def test_gradients_are_those_of_the_recurrence():
    fast, slow = draw(40), draw(40)
    for tensors in (fast, slow):
        for value in tensors.values():
            value.requires_grad_()
    chunk_gated_delta_rule(**fast, use_qk_l2norm_in_kernel=True)[0].square().sum().backward()
    step_by_step(**slow)[0].square().sum().backward()
    for name in fast:
        torch.testing.assert_close(fast[name].grad, slow[name].grad, atol=1e-3, rtol=1e-2)


def test_strong_decay_gives_no_nan():
    tensors = draw(64)
    tensors["g"] = torch.full_like(tensors["g"], -80.0).requires_grad_()
    output, _ = chunk_gated_delta_rule(**tensors, use_qk_l2norm_in_kernel=True)
    output.sum().backward()
    assert torch.isfinite(output).all() and torch.isfinite(tensors["g"].grad).all()


def test_the_convolution_is_conv1d_cut_to_the_past():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 6, 10), torch.randn(6, 4)
    expected = torch.nn.functional.conv1d(x, weight[:, None], padding=3, groups=6)[..., :10]
    torch.testing.assert_close(causal_conv1d(x, weight), expected)
    torch.testing.assert_close(
        causal_conv1d(x, weight, activation="silu"), torch.nn.functional.silu(expected), atol=1e-5, rtol=1e-4
    )


BORDERS = [0, 1, 33, 65, 90]


def one_row(tensors: dict[str, torch.Tensor], start: int, end: int) -> dict[str, torch.Tensor]:
    return {name: value[:, start:end] for name, value in tensors.items()}


def test_packed_rows_are_those_rows_alone():
    tensors = {name: value[:1] for name, value in draw(90).items()}
    cuts = torch.tensor(BORDERS)
    packed, state = chunk_gated_delta_rule(
        **tensors, cu_seqlens=cuts, output_final_state=True, use_qk_l2norm_in_kernel=True
    )
    alone = [step_by_step(**one_row(tensors, start, end)) for start, end in pairwise(BORDERS)]
    torch.testing.assert_close(packed, torch.cat([output for output, _ in alone], dim=1), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(state, alone[-1][1], atol=1e-4, rtol=1e-3)


def test_gradients_of_packed_rows_are_those_of_rows_alone():
    fast, slow = ({name: value[:1].clone().requires_grad_() for name, value in draw(90).items()} for _ in range(2))
    packed, _ = chunk_gated_delta_rule(**fast, cu_seqlens=torch.tensor(BORDERS), use_qk_l2norm_in_kernel=True)
    packed.square().sum().backward()
    for start, end in pairwise(BORDERS):
        step_by_step(**one_row(slow, start, end))[0].square().sum().backward()
    for name in fast:
        torch.testing.assert_close(fast[name].grad, slow[name].grad, atol=1e-3, rtol=1e-2)


def test_the_convolution_does_not_look_into_the_row_before():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 6, 9), torch.randn(6, 4)
    owners = torch.tensor([[0, 0, 0, 0, 0, 1, 2, 2, 2]])
    packed = causal_conv1d(x, weight, activation="silu", seq_idx=owners)
    alone = [causal_conv1d(x[..., start:end], weight, activation="silu") for start, end in ((0, 5), (5, 6), (6, 9))]
    torch.testing.assert_close(packed, torch.cat(alone, dim=-1))


def test_packed_rows_take_one_batch_entry_and_no_state():
    cuts = torch.tensor([0, 2, 4])
    with pytest.raises(ValueError, match="packed rows"):
        chunk_gated_delta_rule(**draw(4), cu_seqlens=cuts)
    with pytest.raises(ValueError, match="packed rows"):
        chunk_gated_delta_rule(
            **one_row({name: value[:1] for name, value in draw(4).items()}, 0, 4),
            cu_seqlens=cuts,
            initial_state=torch.zeros(1, 4, 16, 16),
        )


def test_a_model_gives_the_same_logits_with_and_without(tiny_base):
    with quiet_libraries():
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
        ids = torch.randint(0, 200, (2, 70), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            plain = model(input_ids=ids, use_cache=False).logits
            assert use_fast_delta_rule(model) > 0
            fast = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-3)


def test_what_a_model_runs_on_is_known(tiny_base):
    with quiet_libraries():
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    use_fast_delta_rule(model)
    assert not uses_fused_kernels(model)
    for module in model.modules():
        if hasattr(module, "A_log"):
            rebind_forward(module, FUSED)
    assert uses_fused_kernels(model)
    assert uses_fused_kernels(torch.nn.Linear(2, 2))
