"""Training of the embedded base: its forward is the library's, a stopped run goes on exactly, the rate is as stated."""

import numpy as np
import pytest
import torch

from finetune.embedded.forward import TiledLoss, TrainingForward, _tile_slope
from finetune.embedded.measure import _windows, wilson
from finetune.embedded.pretraining import Pretraining, Schedule, new_model, split_parameters


@pytest.fixture(scope="module")
def model():
    return new_model(seed=0)


def test_it_has_the_architecture_and_the_size(model):
    assert type(model).__name__ == "Qwen3_5ForCausalLM"
    assert model.config.layer_types == (["linear_attention"] * 3 + ["full_attention"]) * 2
    assert 6e6 <= sum(parameter.numel() for parameter in model.parameters()) <= 12e6


def test_new_heads_remember_from_a_word_up_to_a_file(model):
    layers = [layer.linear_attn for layer in model.model.layers if hasattr(layer, "linear_attn")]
    decays = [layer.A_log.exp() * torch.nn.functional.softplus(layer.dt_bias) for layer in layers]
    half_lives = np.log(2) / torch.cat(decays).detach().numpy()
    assert half_lives.min() > 0.4 and np.median(half_lives) > 4 and half_lives.max() > 50


def test_the_training_forward_gives_the_library_s_loss_and_gradients(model):
    ids = torch.randint(0, 8192, (2, 41), generator=torch.Generator().manual_seed(0))
    weights = torch.ones(2, 40)
    weights[0, 10:20] = 4.0
    model.zero_grad()
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    expected = (losses * weights.flatten()).sum() / weights.sum()
    expected.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    loss = TrainingForward(model, dtype=torch.float32, compiled=False).loss(ids, weights)
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], atol=1e-5, rtol=1e-2, msg=name)


def test_the_tiled_loss_has_no_gradient_for_a_frozen_head():
    hidden = torch.randn(9, 8, requires_grad=True)
    weight = torch.randn(20, 8)
    shares = torch.full((9,), 1 / 9)
    TiledLoss.apply(hidden, weight, torch.arange(9), shares, torch.float32, _tile_slope).backward()
    assert hidden.grad.abs().sum() > 0 and weight.grad is None


def test_muon_gets_the_matrices_inside_the_layers_only(model):
    matrices, others = split_parameters(model)
    assert all(parameter.ndim == 2 and min(parameter.shape) >= 64 for parameter in matrices)
    assert any(parameter is model.model.embed_tokens.weight for parameter in others)
    assert len(matrices) + len(others) == len(list(model.parameters()))


def test_the_rate_rises_holds_and_falls_to_nothing():
    schedule = Schedule(steps=100, warmup_steps=10, decay_share=0.5)
    assert schedule.rate(0) == pytest.approx(0.1)
    assert schedule.rate(9) == schedule.rate(49) == 1.0
    assert schedule.rate(75) == pytest.approx(0.5)
    assert 0 < schedule.rate(99) <= 0.02


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    rows = np.random.default_rng(0).integers(0, 8192, (6, 33)).astype(np.uint16)
    schedule = Schedule(steps=3, batch_rows=2, row_tokens=32, warmup_steps=1, save_every=2)
    said = []
    whole = Pretraining(rows, np.ones((6, 32), np.float32), schedule, make(tmp_path / "whole"), compiled=False)
    whole.run(measure=lambda model: 0.0, say=said.append)
    first = Pretraining(rows, np.ones((6, 32), np.float32), schedule, make(tmp_path / "parts"), compiled=False)
    with pytest.raises(InterruptedError):
        first.run(measure=stop, say=said.append)
    second = Pretraining(rows, np.ones((6, 32), np.float32), schedule, tmp_path / "parts", compiled=False)
    assert second.step == 2
    second.run(measure=lambda model: 0.0, say=said.append)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], value, msg=name)


def stop(model):
    raise InterruptedError


def make(folder):
    folder.mkdir()
    return folder


@pytest.mark.parametrize("num_tokens", [2, 700, 1024, 1025, 1536, 1537, 5000])
def test_windows_score_each_token_but_the_first_once(num_tokens):
    ids = list(range(num_tokens))
    scored = [token for window, first in _windows(ids) for token in window[first:]]
    assert sorted(scored) == ids[1:]


def test_the_wilson_interval_is_the_published_one():
    low, high = wilson(10, 100)
    assert (low, high) == pytest.approx((0.0552, 0.1744), abs=2e-4)
    assert wilson(0, 50)[0] == pytest.approx(0.0, abs=1e-12)
