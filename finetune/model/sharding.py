"""A 16-bit base whose decoder layers are spread over the processes of a run: each holds a part of every layer.

FSDP2 puts a layer together while it is used, forward and backward, and lets it go again. Embedding, last norm and head
stay whole on each process, for scoring and the fused loss take the head's weight as it is. Adapters are attached after
loading, so FSDP does not know them: their factors stay whole and in float32, and the Trainer takes the mean of their
gradients. A forward pass of such a base is collective: every process must make it.
"""

from pathlib import Path
from typing import Any

from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig

from finetune.model.shape import decoder_layers, meta_model


def load_sharded(path: Path, *, device: str, **options: Any) -> tuple[Any, Any]:
    """The text model of the folder path and the library's report; options are those of from_pretrained.

    Of each tensor of a layer this process reads its own part alone.
    """
    shapes = meta_model(path)
    kind = type(shapes)

    class Sharded(kind):  # type: ignore[misc, valid-type]
        @classmethod
        def maybe_distribute_model(cls, model: Any, *plan: Any) -> Any:
            # called when the model has its shapes and no memory behind them; the library's own plan shards the head too
            _shard_layers(model, device)
            # the Trainer asks for this: it leaves DDP, which takes no sharded weights, and reduces gradients itself
            model._is_distributed_loading_by_transformers = True
            return model

    # without a plan the library asks the class
    model, report = Sharded.from_pretrained(
        path, config=shapes.config, distributed_config=DistributedConfig(), **options
    )
    model.__class__ = kind
    del model.config.distributed_config
    return model, report


def _shard_layers(model: Any, device: str) -> None:
    mesh = init_device_mesh(device, (distributed.get_world_size(),))
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh)
    whole = {part for part in model.parameters() if not isinstance(part, DTensor)}
    # the root, through which each pass enters: it fetches a layer while the one before computes
    fully_shard(model.base_model, mesh=mesh, ignored_params=whole)
