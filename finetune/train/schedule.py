"""The learning rate over a run, as a share of its peak."""

import math

from finetune.recipe.schema import TrainSection


def rate_share(step: int, num_steps: int, section: TrainSection) -> float:
    """The share of the peak rate with which step (0 is the first) of num_steps is taken; never 0, so no step is lost.

    Rises in equal parts over the warm-up, then falls to near 0 along a cosine or a line, or stays.
    """
    warmup = min(num_steps - 1, math.ceil(section.warmup_share * num_steps))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if section.schedule == "constant":
        return 1.0
    gone = min(1.0, (step - warmup) / (num_steps - warmup))
    left = 1.0 - gone if section.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * gone))
    return max(left, 1e-6)
