"""What a recipe asks of a card."""

from finetune.families.registry import family_for
from finetune.families.tokens import Unsupported
from finetune.plan.memory import Workload
from finetune.recipe.resolve import ResolvedBase, ResolvedLora
from finetune.recipe.schema import DataSection, EvaluateSection, TrainSection


def recipe_workload(
    base: ResolvedBase, lora: ResolvedLora, *, data: DataSection, train: TrainSection, evaluate: EvaluateSection
) -> Workload:
    """The workload of a recipe's sections, every row as long as data.max_tokens allows."""
    return Workload(
        quantization=base.quantization,
        keep_16bit=base.keep_16bit,
        targets=lora.targets,
        rank=lora.rank,
        optimizer=train.optimizer,
        row_tokens=data.max_tokens,
        micro_batch=train.micro_batch,
        packed=train.packing and not isinstance(family_for(base.model_type).packing, Unsupported),
        accumulation=train.accumulation,
        checkpointing=train.activation_checkpointing,
        offload=train.activation_offload,
        embedding_on_host=base.embedding_on_host,
        eval_rows=evaluate.batch_rows,
        new_tokens=evaluate.max_new_tokens if evaluate.infill_rows else 0,
        cards=train.num_processes,
        sharded=train.sharding == "fsdp2",
    )
