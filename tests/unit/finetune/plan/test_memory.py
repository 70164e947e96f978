"""Memory by phase: exact sizes of what bitsandbytes makes, and what each switch of a recipe takes off."""

from dataclasses import replace

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.model.quiet import quiet_libraries
from finetune.plan.memory import Workload, checkpoint_bytes, host_bytes, nf4_bytes, optimizer_bytes, phases
from finetune.plan.shape import LinearMaps, ModelShape


def sizes(shape: ModelShape, work: Workload, phase: str) -> dict[str, int]:
    found = next(found for found in phases(shape, work) if found.name == phase)
    return {item.name: item.size for item in found.items}


@pytest.mark.parametrize("parameters", [(256, 512), (96, 64), (160, 3072)])
def test_a_4_bit_matrix_takes_what_bitsandbytes_makes_of_it(parameters: tuple[int, int]) -> None:
    with quiet_libraries():
        from bitsandbytes.functional import quantize_4bit

        packed, state = quantize_4bit(torch.randn(parameters), quant_type="nf4", compress_statistics=True)
    parts = (packed, state.absmax, state.state2.absmax, state.offset)
    made = sum(part.numel() * part.element_size() for part in parts)
    assert nf4_bytes(parameters[0] * parameters[1]) == made


@pytest.mark.parametrize("numbers", [1000, 4096, 80_000, 100_001])
def test_8_bit_states_take_what_bitsandbytes_makes_of_them(numbers: int) -> None:
    with quiet_libraries():
        from bitsandbytes.optim import AdamW8bit

        parameter = torch.nn.Parameter(torch.randn(numbers))
        optimizer = AdamW8bit([parameter])
        parameter.grad = torch.randn(numbers)
        optimizer.step()
    state = optimizer.state[parameter]
    parts = [state[name] for name in ("state1", "state2", "absmax1", "absmax2") if name in state]
    assert optimizer_bytes(numbers, "adamw_8bit") == sum(part.numel() * part.element_size() for part in parts)


def test_fp32_states_take_eight_bytes() -> None:
    assert optimizer_bytes(10_000, "adamw") == 80_000


def test_the_first_step_has_no_optimiser_states_and_saving_no_activations(shape: ModelShape, work: Workload) -> None:
    assert "optimiser states" not in sizes(shape, work, "first step")
    assert "optimiser states" in sizes(shape, work, "longest step")
    assert "layer checkpoints" not in sizes(shape, work, "save")
    assert "adapter weights" not in sizes(shape, work, "load")


def test_checkpoints_are_the_hidden_states_of_each_layer(shape: ModelShape, work: Workload) -> None:
    assert sizes(shape, work, "longest step")["layer checkpoints"] == 5120 * 2 * 64 * 4096


def test_offloaded_checkpoints_leave_two_layers_and_fill_host_memory(shape: ModelShape, work: Workload) -> None:
    offloaded = replace(work, offload=True)
    assert sizes(shape, offloaded, "longest step")["layer checkpoints"] == 5120 * 2 * 2 * 4096
    assert (host_bytes(shape, work), host_bytes(shape, offloaded)) == (0, 5120 * 2 * 64 * 4096)


def test_without_checkpointing_all_layers_keep_their_activations(shape: ModelShape, work: Workload) -> None:
    whole = sizes(shape, replace(work, checkpointing=False), "longest step")
    assert whole["activations of all layers"] == 300_000 * 64 * 4096
    assert whole["live layer in backward, or loss tiles"] == 100_000 * 4096


def test_an_embedding_on_the_host_is_on_the_card_only_while_loading(shape: ModelShape, work: Workload) -> None:
    hosted = replace(work, embedding_on_host=True)
    assert sizes(shape, hosted, "load")["embedding"] == 248_320 * 5120 * 2
    assert "embedding" not in sizes(shape, hosted, "longest step")
    assert host_bytes(shape, hosted) == 248_320 * 5120 * 2


def test_a_tied_head_is_counted_once(shape: ModelShape, work: Workload) -> None:
    tied = replace(shape, tied=True)
    assert "head" not in sizes(tied, work, "save")
    assert shape.parameters - tied.parameters == shape.vocabulary_parameters


def test_16_bit_needs_no_room_to_dequantise(shape: ModelShape, work: Workload) -> None:
    plain = sizes(shape, replace(work, quantization=Quantization.NONE), "longest step")
    assert "dequantised matrices" not in plain and "base, 4-bit" not in plain
    assert plain["base, kept in 16 bit"] == 2 * (shape.map_parameters + shape.other_parameters)


def test_experts_are_dequantised_one_at_a_time_but_read_all_at_once(shape: ModelShape, work: Workload) -> None:
    fused = LinearMaps("experts.gate_up_proj", 2048, 1024, 40, experts=256, active=8)
    mixture = replace(shape, maps=(fused,))
    assert sizes(mixture, work, "longest step")["dequantised matrices"] == 2048 * 1024 * 2 * 2
    assert sizes(mixture, work, "load")["one tensor before it is quantised"] == 256 * 2048 * 1024 * 2


def test_fused_kernels_hold_memory_outside_the_allocator_once_they_run(shape: ModelShape, work: Workload) -> None:
    first, *rest = shape.layers
    hybrid = replace(shape, layers=(replace(first, plain=replace(first.plain, backward=900_000)), *rest))
    context = "CUDA context and libraries"
    assert sizes(hybrid, work, "longest step")[context] == int(2.8 * 2**30)
    alike = (sizes(hybrid, work, "load"), sizes(shape, work, "longest step"))
    plain = sizes(hybrid, replace(work, fast_kernels=False), "longest step")
    assert {found[context] for found in (*alike, plain)} == {int(0.7 * 2**30)}


def test_loss_tiles_count_where_they_are_larger_than_a_layer(shape: ModelShape, work: Workload) -> None:
    thin = replace(shape, layers=tuple(replace(part, fast=replace(part.fast, backward=1.0)) for part in shape.layers))
    tile = 4096 * 32_768 * 2 + 4096 * 5120 * 6
    assert sizes(thin, work, "longest step")["live layer in backward, or loss tiles"] == tile


def test_rows_of_a_batch_need_a_mask(shape: ModelShape, work: Workload) -> None:
    assert "attention mask" not in sizes(shape, work, "longest step")
    assert sizes(shape, replace(work, micro_batch=2), "longest step")["attention mask"] == 2 * 4096**2 * 3


def test_packed_rows_need_a_mask_over_their_one_sequence(shape: ModelShape, work: Workload) -> None:
    packed = replace(work, packed=True)
    assert sizes(shape, packed, "longest step")["attention mask"] == 4096**2 * 3
    assert sizes(shape, replace(packed, micro_batch=2), "longest step")["attention mask"] == 8192**2 * 3
    assert "attention mask" not in sizes(shape, packed, "evaluation")


def test_a_checkpoint_on_disk_is_the_adapter_and_its_states(shape: ModelShape, work: Workload) -> None:
    numbers = shape.adapter_parameters(work.targets, work.rank)
    assert numbers * 6 < checkpoint_bytes(shape, work) < numbers * 6.05


def test_a_sharded_base_is_divided_but_for_what_is_gathered_embedding_and_head(
    shape: ModelShape, work: Workload
) -> None:
    whole = replace(work, quantization=Quantization.NONE, cards=4)
    (load, *_, step, evaluation, save), (alone, *_) = phases(shape, replace(whole, sharded=True)), phases(shape, whole)
    layers = (shape.map_parameters + shape.other_parameters) * 2
    assert alone.peak - load.peak == pytest.approx(layers * 3 / 4, abs=4)
    gathered = {item.name: item.size for item in step.items}["layers gathered from all cards"]
    assert gathered == 2 * 400_000_000 * 2
    assert any(item.size == gathered for item in evaluation.items)
    assert not any(item.name.startswith("layers gathered") for item in (*load.items, *save.items))
