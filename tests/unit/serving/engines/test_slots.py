"""Adapters side by side: what PEFT computes for each, whatever came and went before, and no trace at the end."""

import itertools
import shutil

import pytest
import torch

from finetune.contracts.adapter import AdapterManifest, Quantization
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import read_model
from finetune.model.loading import load_base
from finetune.model.lora import attach_saved, detach
from serving.engines import slots as slots_module
from serving.engines.saved import read_linear_factors
from serving.engines.slots import AdapterSlots, LinearFactors

IDS = torch.tensor([[65, 66, 67, 68]])


def float_base(folder):
    base = load_base(folder, quantization=Quantization.NONE, device="cpu")
    base.model.float()
    return base


@pytest.fixture(scope="module")
def base(tiny_base):
    return float_base(tiny_base)


@torch.inference_mode()
def logits(model, ids=IDS):
    return model(input_ids=ids).logits


def random_factors(slots: AdapterSlots, targets: tuple[str, ...], *, rank: int, seed: int) -> dict[str, LinearFactors]:
    source = torch.Generator().manual_seed(seed)
    found = {}
    for name in slots.names(targets):
        size_in, size_out = slots.size_of(name)
        a, b = (torch.randn(rank, size, generator=source) * 0.2 for size in (size_in, size_out))
        found[name] = LinearFactors(a, b)
    return found


def test_an_adapter_acts_as_under_peft(base, good_adapter):
    manifest = read_model(good_adapter / "manifest.json", AdapterManifest, error=AdapterError, hint="")
    plain = logits(base.model)
    model = attach_saved(base, good_adapter, "one")
    expected = logits(model)
    detach(model, "one")
    slots = AdapterSlots(base.model)
    slots.load("one", read_linear_factors(good_adapter, manifest, slots))
    slots.select(["one"])
    assert torch.allclose(logits(base.model), expected, atol=1e-5) and not torch.allclose(plain, expected, atol=1e-2)
    slots.select([None])
    assert torch.equal(logits(base.model), plain)
    slots.free("one")
    assert torch.equal(logits(base.model), plain) and not any(part._forward_hooks for part in base.model.modules())


def test_rows_of_a_batch_have_each_its_own(base):
    slots = AdapterSlots(base.model)
    for number, rank in enumerate((3, 8, 5)):
        slots.load(f"s{number}", random_factors(slots, ("q_proj", "up_proj", "out_proj"), rank=rank, seed=number))
    rows = ["s2", None, "s0", "s1", "s0"]
    alone = []
    for slot in rows:
        slots.select([slot])
        alone.append(logits(base.model))
    slots.select(rows)
    assert torch.allclose(logits(base.model, IDS.expand(5, -1)), torch.cat(alone), atol=1e-5)
    assert not torch.allclose(alone[0], alone[2], atol=1e-2)
    for number in range(3):
        slots.free(f"s{number}")


def test_ranks_are_used_again_without_what_was_there(base):
    """The second adapter lies where the first did, and reaches fewer maps."""
    slots = AdapterSlots(base.model)
    slots.load("keeper", random_factors(slots, ("q_proj",), rank=4, seed=0))
    slots.load("old", random_factors(slots, ("q_proj", "up_proj"), rank=60, seed=1))
    small = random_factors(slots, ("q_proj",), rank=7, seed=2)
    slots.load("late", small)
    slots.select(["late"])
    expected = logits(base.model)
    slots.free("old")
    slots.load("new", small)
    assert slots._ranks["new"].start == 4 < slots._ranks["late"].start
    slots.select(["new"])
    assert torch.allclose(logits(base.model), expected, atol=1e-5)
    for slot in ("keeper", "late", "new"):
        slots.free(slot)


def test_memory_grows_with_what_is_loaded_at_once_and_not_with_what_was(base):
    slots = AdapterSlots(base.model)
    factors = random_factors(slots, ("q_proj",), rank=40, seed=0)
    for number in range(50):
        slots.load(f"s{number}", factors)
        if number:
            slots.free(f"s{number - 1}")
    assert slots.num_ranks == 128
    slots.free("s49")
    assert slots.num_ranks == 0


def test_maps_that_see_rows_and_tokens_as_one_are_reached(base):
    """Mixtures hand (rows x tokens, size) to their maps."""
    part = torch.nn.Linear(6, 5)
    model = torch.nn.Sequential(part)
    slots = AdapterSlots(model)
    slots.load("one", {"0": LinearFactors(torch.randn(2, 6), torch.randn(2, 5))})
    slots.load("two", {"0": LinearFactors(torch.randn(3, 6), torch.randn(3, 5))})
    x = torch.randn(3, 4, 6)
    slots.select(["one", None, "two"])
    assert torch.allclose(part(x.reshape(12, 6)).view(3, 4, 5), part(x), atol=1e-6)
    # as latent attention hands over what it keeps: an axis more
    assert torch.allclose(part(x[:, None])[:, 0], part(x), atol=1e-6)


def test_a_load_that_fails_leaves_the_model_as_it_was(base):
    slots = AdapterSlots(base.model)
    factors = random_factors(slots, ("q_proj",), rank=4, seed=0)
    name = next(iter(factors))
    wrong = {**factors, name: LinearFactors(factors[name].a[:, :-1], factors[name].b)}
    with pytest.raises(RuntimeError):
        slots.load("one", wrong)
    assert "one" not in slots and not any(part._forward_hooks for part in base.model.modules())


def test_a_load_that_fails_half_way_lets_the_others_go_on(base, monkeypatch):
    """As when memory runs out at a map that no adapter before reached."""
    slots = AdapterSlots(base.model)
    for number in range(2):
        slots.load(f"s{number}", random_factors(slots, ("q_proj",), rank=40, seed=number))
    slots.select(["s0", None, "s1"])
    expected = logits(base.model, IDS.expand(3, -1))
    grow = slots_module._with_rows
    monkeypatch.setattr(slots_module, "_with_rows", fails_at(30, grow))
    monkeypatch.setattr(torch, "zeros", fails_at(3, torch.zeros))
    with pytest.raises(torch.OutOfMemoryError):
        slots.load("s2", random_factors(slots, ("q_proj", "up_proj", "down_proj"), rank=60, seed=2))
    monkeypatch.undo()
    slots.select(["s1", "s0", None])
    slots.select(["s0", None, "s1"])
    assert torch.equal(logits(base.model, IDS.expand(3, -1)), expected)
    slots.free("s0")
    slots.free("s1")


def fails_at(number: int, function):
    calls = itertools.count(1)

    def called(*args, **options):
        if next(calls) == number:
            raise torch.OutOfMemoryError("no memory")
        return function(*args, **options)

    return called


@torch.inference_mode()
@pytest.mark.parametrize("freed", [False, True])
def test_factors_beyond_all_bounds_do_not_reach_the_rows_of_others(freed):
    part = torch.nn.Linear(6, 5)
    slots = AdapterSlots(torch.nn.Sequential(part))
    for slot, size in (("one", 1.0), ("wild", 3e38), ("two", 1.0)):
        slots.load(slot, {"0": LinearFactors(torch.full((2, 6), size), torch.ones(2, 5))})
    if freed:
        slots.free("wild")
    x = torch.full((3, 4, 6), 2.0)
    slots.select(["one", None, "two"])
    plain = torch.nn.functional.linear(x, part.weight, part.bias)
    assert torch.allclose(part(x) - plain, torch.tensor([24.0, 0.0, 24.0])[:, None, None].expand(3, 4, 5), atol=1e-4)


def test_a_scale_that_makes_infinities_is_refused(base, good_adapter, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(good_adapter, tmp_path / "large")
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    name = next(key for key in state if "lora_B" in key)
    state[name] = torch.full_like(state[name], torch.finfo(state[name].dtype).max)
    save_file(state, path)
    manifest = read_model(folder / "manifest.json", AdapterManifest, error=AdapterError, hint="")
    manifest = manifest.model_copy(update={"alpha": manifest.rank * 4})
    with pytest.raises(AdapterError, match="no number"):
        read_linear_factors(folder, manifest, AdapterSlots(base.model))


def test_a_selection_is_made_again_when_a_slot_changes_its_place(base):
    slots = AdapterSlots(base.model)
    first, second = (random_factors(slots, ("q_proj",), rank=rank, seed=rank) for rank in (4, 6))
    slots.load("kept", first)
    slots.load("one", second)
    slots.select(["one", "kept"])
    expected = logits(base.model, IDS.expand(2, -1))
    slots.free("one")
    slots.load("other", random_factors(slots, ("q_proj",), rank=4, seed=3))
    slots.load("one", second)
    slots.select(["one", "kept"])
    assert torch.allclose(logits(base.model, IDS.expand(2, -1)), expected, atol=1e-6)
    for slot in ("kept", "other", "one"):
        slots.free(slot)
