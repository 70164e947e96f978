"""One GPU, under ten minutes: does the plan hold, how fast is a step, are packed rows exact, is the adapter the CPU's.

python bench/gpu.py [--recipe recipes/qwen3_6/27b-qlora-24gb.yaml] [--base tests/assets/plan/qwen3_6-27b]
                    [--lengths 2048 4096 8192 16384] --out FILE.json

A base of the true shape with random weights is made on the device. Memory: the recipe's own training steps at several
row lengths, the process held to a 24 GB card less 1 GiB for the desktop. The table goes to stdout, figures to --out.
"""

import argparse
import gc
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from gpu_base import random_base
from gpu_equal import adapter_on_both
from gpu_loop import Clock, no_store, text_row

from finetune.cli.plan import workload
from finetune.contracts.errors import MachineError
from finetune.embedded import BASE_FOLDER
from finetune.model.delta_layers import FUSED, OWN, functions_for, rebind_forward
from finetune.model.host_embedding import move_embedding_to_host
from finetune.model.loading import LoadedBase
from finetune.model.lora import attach
from finetune.model.packed import proof_rows, prove_packing
from finetune.model.quiet import quiet_libraries
from finetune.model.scoring import row_losses
from finetune.model.shape import read_shape
from finetune.plan.machine import GIB, MIB, RESERVE_BYTES, SOLD_AS_24GB_MIB
from finetune.plan.memory import EVALUATION, context_bytes, phases
from finetune.plan.speed import training_flops
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import ResolvedRecipe, resolve
from finetune.render.rows import TokenRow
from finetune.train.interrupt import StopRequest
from finetune.train.matmul import matmul_tflops
from finetune.train.order import RowOrder

STEPS, MIXED_STEPS = 3, 2
LENGTHS = (2048, 4096, 8192, 16_384)
PLACE = Path(__file__).parents[1]


@dataclass
class Bench:
    """What all stages share."""

    resolved: ResolvedRecipe
    folder: Path
    base: LoadedBase
    model: Any
    peak: float
    context: int
    out: Path
    results: dict[str, Any]

    def stage(self, name: str, work: Callable[[], Any]) -> None:
        """Run a stage and write down what it found, or why it failed; the next one runs either way."""
        started = time.monotonic()
        try:
            found = work()
        except Exception as cause:
            found = {"error": f"{type(cause).__name__}: {str(cause)[:500]}"}
        self.results[name] = found
        self.results.setdefault("seconds", {})[name] = round(time.monotonic() - started, 1)
        self.out.write_text(json.dumps(self.results, indent=1))
        print(name, json.dumps(found), f"{time.monotonic() - started:.1f} s", flush=True)
        gc.collect()
        torch.cuda.empty_cache()


def main() -> None:
    arguments = parser().parse_args()
    started = time.monotonic()
    resolved = resolve(load_recipe(arguments.recipe, [f"base.path={arguments.base}"]))
    with quiet_libraries():
        import finetune.train.trl_bridge  # noqa: F401  loud, and needed below
    base = random_base(arguments.base, BASE_FOLDER, device="cuda")
    torch.cuda.synchronize()
    bench = Bench(
        resolved=resolved,
        folder=arguments.base,
        base=base,
        model=attach(base, resolved.lora),
        peak=matmul_tflops("cuda") * 1e12,
        context=outside_allocator(),
        out=arguments.out,
        results={},
    )
    card = torch.cuda.get_device_properties(0)
    bench.results |= {
        "card": f"{card.name}, {card.total_memory // MIB} MiB",
        "torch": torch.__version__,
        "peak_tflops": round(bench.peak / 1e12, 1),
        "context_gib": round(bench.context / GIB, 3),
        "base_seconds": round(time.monotonic() - started, 1),
        "static_gib": round(torch.cuda.memory_allocated() / GIB, 3),
    }
    print(json.dumps(bench.results), flush=True)
    run_stages(bench, arguments.lengths)
    print(table(bench.results))


def run_stages(bench: Bench, lengths: Sequence[int]) -> None:
    layers = [module for module in bench.model.modules() if hasattr(module, "A_log")]
    if layers:
        bench.stage("functions", lambda: choose_functions(layers))
    bench.stage("packing", lambda: packing(bench))
    for length in lengths[:2]:
        bench.stage(f"as it is, {length}", lambda length=length: memory_case(bench, length, offload=False))
    bench.stage("embedding to the host", lambda: to_host(bench))
    for length in lengths:
        bench.stage(f"recipe, {length}", lambda length=length: memory_case(bench, length, offload=True))
    bench.stage(f"evaluation, {lengths[-2]}", lambda: evaluation_case(bench, lengths[-2]))
    bench.stage("rows of many lengths, packed", lambda: mixed_case(bench, lengths[-2], packed=True))
    bench.stage("rows of many lengths, apart", lambda: mixed_case(bench, lengths[-2], packed=False))
    if layers:
        rebind(layers, OWN)
        bench.stage(f"own functions, {lengths[-2]}", lambda: memory_case(bench, lengths[-2], offload=True, own=True))
    bench.model = bench.base = None
    gc.collect()
    torch.cuda.empty_cache()
    bench.stage("embedded adapter, cuda against cpu", adapter_on_both)


def choose_functions(layers: Sequence[Any]) -> str:
    chosen = functions_for(layers[0])
    rebind(layers, chosen)
    return "fused" if chosen is FUSED else "own"


def to_host(bench: Bench) -> int:
    """The library's table of modules that want 32-bit states would keep the embedding of earlier cases on the card."""
    from bitsandbytes.optim import GlobalOptimManager

    GlobalOptimManager.get_instance().module_weight_config_triple.clear()
    return move_embedding_to_host(bench.base.model)


def rebind(layers: Sequence[Any], functions: Any) -> None:
    for layer in layers:
        rebind_forward(layer, functions)


def outside_allocator() -> int:
    """What the card holds that is not the allocator's: CUDA's context, libraries, kernels."""
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def hold_to_24gb(bench: Bench, held: bool) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    allowed = SOLD_AS_24GB_MIB * MIB - RESERVE_BYTES - bench.context
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total) if held else 1.0)


def memory_case(bench: Bench, length: int, *, offload: bool, own: bool = False) -> dict[str, Any]:
    """Steps of one packed sequence of length tokens: held to the small card first, then free if it did not fit."""
    rows = token_rows(bench, (length // 2, length // 4, length // 8, length - length // 2 - length // 4 - length // 8))
    section = bench.resolved.train.model_copy(
        update={"activation_offload": offload, "accumulation": 1, "micro_batch": 1, "log_every_steps": 1}
    )
    work = replace(
        workload(bench.resolved),
        row_tokens=length,
        offload=offload,
        embedding_on_host=offload,
        accumulation=1,
        fast_kernels=not own,
    )
    shape = read_shape(bench.folder, targets=work.targets, rank=work.rank)
    planned = {phase.name: phase.peak for phase in phases(shape, work)}
    forecast = planned["longest step"] - context_bytes(shape, work)
    order = RowOrder(passes=((0, 1, 2, 3),) * STEPS, passes_per_step=1, packed=True)
    found: dict[str, Any] = {}
    for held in (True, False):
        hold_to_24gb(bench, held)
        try:
            found = steps(bench, rows, order, section=section)
        except MachineError as cause:
            found = {"out_of_memory": str(cause)[:160]}
        gc.collect()
        torch.cuda.empty_cache()
        found["fits_24gb"] = held
        if "out_of_memory" not in found:
            break
    hold_to_24gb(bench, False)
    return found | {
        "forecast_gib": round(forecast / GIB, 3),
        "error": round(forecast / GIB / found["peak_gib"] - 1, 4) if "peak_gib" in found else None,
    }


def evaluation_case(bench: Bench, length: int) -> dict[str, Any]:
    """The peak of scoring one row of length tokens."""
    (row,) = token_rows(bench, (length,))
    work = replace(workload(bench.resolved), row_tokens=length, eval_rows=1, new_tokens=0, embedding_on_host=True)
    shape = read_shape(bench.folder, targets=work.targets, rank=work.rank)
    (planned,) = (phase.peak for phase in phases(shape, work) if phase.name == EVALUATION)
    torch.cuda.reset_peak_memory_stats()
    started = time.monotonic()
    row_losses(bench.model, [(row.input_ids, row.labels)], pad_token=0, batch_rows=1)
    return {
        "seconds": round(time.monotonic() - started, 2),
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 3),
        "forecast_gib_with_optimiser_states": round((planned - context_bytes(shape, work)) / GIB, 3),
    }


def mixed_case(bench: Bench, budget: int, *, packed: bool) -> dict[str, Any]:
    """Rows as code has them, many short and few long: all of a step in shared sequences, or each by itself."""
    source = random.Random(0)
    lengths: list[int] = []
    while sum(lengths) < 2 * budget:
        lengths.append(min(budget, max(64, round(source.lognormvariate(6.3, 0.9)))))
    rows = token_rows(bench, lengths)
    if packed:
        from finetune.train.order import pack

        passes = pack(range(len(rows)), lengths, pass_tokens=budget)
    else:
        passes = [(index,) for index in range(len(rows))]
    order = RowOrder(passes=tuple(passes) * MIXED_STEPS, passes_per_step=len(passes), packed=packed)
    section = bench.resolved.train.model_copy(
        update={"accumulation": len(passes), "micro_batch": 1, "log_every_steps": 1}
    )
    return steps(bench, rows, order, section=section) | {"rows": len(rows), "passes": len(passes)}


def steps(bench: Bench, rows: list[TokenRow], order: RowOrder, *, section: Any) -> dict[str, Any]:
    """Train, and tell peak memory, seconds of a step after the first, tokens a second and the share of the peak."""
    from finetune.train.trl_bridge import LoopParts, build_trainer, run_loop

    clock = Clock()
    torch.cuda.reset_peak_memory_stats()
    with quiet_libraries():
        trainer = build_trainer(
            bench.model,
            bench.base.tokenizer,
            rows,
            order=order,
            section=section,
            device="cuda",
            parts=LoopParts(store=no_store(), watcher=clock, stop=StopRequest()),
        )
        run_loop(trainer, None)
    seconds = (clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1)
    lengths = [len(row.input_ids) for row in rows]
    tokens = order.step_tokens(lengths)[-1]
    shape = read_shape(bench.folder, targets=bench.resolved.lora.targets, rank=bench.resolved.lora.rank)
    flops = training_flops(
        shape,
        targets=bench.resolved.lora.targets,
        rank=bench.resolved.lora.rank,
        row_tokens=sum(length**2 for length in lengths) / sum(lengths),
        checkpointing=section.activation_checkpointing,
    )
    return {
        "peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 3),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 3),
        "context_gib": round(outside_allocator() / GIB, 3),
        "step_seconds": round(seconds, 3),
        "tokens": tokens,
        "tokens_per_second": round(tokens / seconds, 1),
        "utilisation": round(flops.total * tokens / seconds / bench.peak, 4),
        "losses": [round(loss, 4) for loss in clock.losses],
    }


def packing(bench: Bench) -> dict[str, Any]:
    """The proof of packed rows, and what the very same run moves by itself."""
    (row,) = token_rows(bench, (4096,))
    proof = prove_packing(bench.model, proof_rows([(row.input_ids, row.labels)]))
    return {
        "problem": proof.problem,
        "logits": proof.logits,
        "gradients": proof.gradients,
        "rounding_logits": proof.rounding_logits,
        "rounding_gradients": proof.rounding_gradients,
        "moved_logits": proof.moved_logits,
        "moved_gradients": proof.moved_gradients,
    }


def token_rows(bench: Bench, lengths: Sequence[int]) -> list[TokenRow]:
    source = random.Random(0)
    vocabulary = bench.base.model.config.vocab_size
    return [text_row([source.randrange(vocabulary) for _ in range(length)]) for length in lengths]


def table(results: dict[str, Any]) -> str:
    lines = [
        "| case | fits 24 GB | peak GiB | forecast | error | tokens/s | of the measured peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        if isinstance(found, dict) and "tokens_per_second" in found:
            forecast, error = found.get("forecast_gib", ""), found.get("error")
            lines.append(
                f"| {name} | {found.get('fits_24gb', '')} | {found['peak_gib']} | {forecast}"
                f" | {'' if error is None else format(error, '+.1%')} | {found['tokens_per_second']:,}"
                f" | {found['utilisation']:.1%} |"
            )
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--recipe", type=Path, default=PLACE / "recipes/qwen3_6/27b-qlora-24gb.yaml")
    made.add_argument("--base", type=Path, default=PLACE / "tests/assets/plan/qwen3_6-27b")
    made.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    made.add_argument("--out", type=Path, required=True)
    return made


if __name__ == "__main__":
    main()
