"""The embedded base's adapter, trained on the CPU and on the GPU from the same rows: how far apart do they end?"""

from pathlib import Path
from typing import Any

from gpu_loop import Clock, no_store, text_row

from finetune.contracts.adapter import Quantization
from finetune.embedded import BASE_FOLDER
from finetune.model.loading import LoadedBase, load_base
from finetune.model.lora import attach
from finetune.model.quiet import quiet_libraries
from finetune.model.scoring import row_losses
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import resolve
from finetune.render.rows import TokenRow
from finetune.train.interrupt import StopRequest
from finetune.train.order import RowOrder

PLACE = Path(__file__).parents[1]
STEPS, ROWS_PER_STEP, ROW_TOKENS, SEEN_ROWS = 20, 4, 256, 40


def adapter_on_both() -> dict[str, Any]:
    """Losses of each step on both, what each adapter gained on unseen text, and the difference of the factors."""
    cpu, gpu = (trained(device) for device in ("cpu", "cuda"))
    pairs = [(gpu["factors"][name], factor) for name, factor in cpu["factors"].items()]
    difference = sum((one - other).square().sum() for one, other in pairs)
    return {
        "losses_cpu": cpu["losses"],
        "losses_cuda": gpu["losses"],
        "largest_difference_of_loss": max(abs(a - b) for a, b in zip(cpu["losses"], gpu["losses"], strict=True)),
        "unseen_before_cpu": cpu["before"],
        "unseen_before_cuda": gpu["before"],
        "unseen_after_cpu": cpu["after"],
        "unseen_after_cuda": gpu["after"],
        "factors_apart": float((difference / sum(other.square().sum() for _, other in pairs)) ** 0.5),
    }


def trained(device: str) -> dict[str, Any]:
    from finetune.train.trl_bridge import LoopParts, build_trainer, run_loop

    resolved = resolve(load_recipe(PLACE / "recipes/qwen3_5/embedded-qlora.yaml", []))
    base = load_base(BASE_FOLDER, quantization=Quantization.NF4, device=device)
    rows = code_rows(base)
    learned, unseen = rows[: STEPS * ROWS_PER_STEP], rows[STEPS * ROWS_PER_STEP :][:SEEN_ROWS]
    model = attach(base, resolved.lora, seed=0)
    passes = tuple(tuple(range(start, start + ROWS_PER_STEP)) for start in range(0, len(learned), ROWS_PER_STEP))
    watcher = Clock()
    store = no_store()
    before = nats_per_token(model, unseen)
    with quiet_libraries():
        trainer = build_trainer(
            model,
            base.tokenizer,
            learned,
            order=RowOrder(passes=passes, passes_per_step=1, packed=True),
            section=resolved.train.model_copy(update={"accumulation": 1}),
            device=device,
            parts=LoopParts(store=store, watcher=watcher, stop=StopRequest()),
        )
        run_loop(trainer, None)
    factors = {name: part.detach().float().cpu() for name, part in model.named_parameters() if part.requires_grad}
    return {"losses": watcher.losses, "factors": factors, "before": before, "after": nats_per_token(model, unseen)}


def nats_per_token(model: Any, rows: list[TokenRow]) -> float:
    losses = row_losses(model, [(row.input_ids, row.labels) for row in rows], pad_token=0)
    return sum(losses) / sum(row.num_loss_tokens for row in rows)


def code_rows(base: LoadedBase) -> list[TokenRow]:
    """Rows of ROW_TOKENS from this project's own code, in a fixed order."""
    text = "\n".join(path.read_text() for path in sorted((PLACE / "finetune").rglob("*.py")))
    ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    return [text_row(ids[start : start + ROW_TOKENS]) for start in range(0, len(ids) - ROW_TOKENS, ROW_TOKENS)]
