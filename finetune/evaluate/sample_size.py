"""How many tasks a suite needs before a difference like the one seen is shown 4 times in 5."""

import math

from scipy import stats

from finetune.evaluate.stats import LEVEL, Comparison

POWER = 0.8
# A difference that takes more tasks than this is the rounding of sums, not one of models.
MAX_TASKS = 10**9


def tasks_for_shares(discordant: float, difference: float, *, level: float = LEVEL) -> int:
    """Tasks at which McNemar's test shows difference between two shares, of which a share discordant changes.

    Connor, "Sample Size for Testing Differences in Proportions for the Paired-Sample Design" (Biometrics 43, 1987):
    (z_a sqrt(d) + z_b sqrt(d - difference^2))^2 / difference^2, two-sided, tasks independent of each other.
    discordant is at least |difference|, and difference not 0.
    """
    z_level, z_power = quantiles(level)
    reach = z_level * math.sqrt(discordant) + z_power * math.sqrt(discordant - difference**2)
    return math.ceil((reach / difference) ** 2)


def tasks_for_error(found: Comparison, error: float, *, distance: float, level: float = LEVEL) -> int:
    """Tasks, in clusters like those of found, at which a distance from what is to be excluded is shown.

    error is the standard error at found's tasks, which falls with the root of their number:
    n x ((z_a + z_b) x error / distance)^2, two-sided.
    """
    z_level, z_power = quantiles(level)
    return math.ceil(found.num_items * ((z_level + z_power) * error / distance) ** 2)


def clusters_for_level(level: float) -> int:
    """The least number of clusters that can show anything at level: n that agree have a p-value of 2 / 2^n."""
    return math.ceil(1 - math.log2(level))


def quantiles(level: float) -> tuple[float, float]:
    """z of a two-sided level, and z of POWER."""
    return float(stats.norm.ppf(1 - level / 2)), float(stats.norm.ppf(POWER))


def num_needed(found: Comparison, *, level: float = LEVEL) -> int | None:
    """Tasks at which found's difference would be shown with POWER at level, None if it is 0 or over MAX_TASKS.

    Never fewer than hold as many clusters as level asks for.
    """
    if not found.difference or abs(found.difference) < found.standard_error / math.sqrt(MAX_TASKS):
        return None
    needed = tasks_for_error(found, found.standard_error, distance=found.difference, level=level)
    if found.discordant is not None:
        needed = max(needed, tasks_for_shares(found.discordant, found.difference, level=level))
    return max(needed, tasks_for_clusters(found, level))


def num_needed_within(found: Comparison, loss: float, *, margin: float) -> int | None:
    """Tasks at which a loss like this one would be shown to be below margin, with POWER; None if it is not below.

    The error is that of found's interval, which has a width where no task changed.
    """
    if loss >= margin:
        return None
    z_level, _ = quantiles(LEVEL)
    error = (found.high - found.low) / 2 / z_level
    return max(tasks_for_error(found, error, distance=margin - loss), tasks_for_clusters(found, LEVEL))


def tasks_for_clusters(found: Comparison, level: float) -> int:
    """Tasks that lie in as many clusters as level asks for, if clusters are as large as found's."""
    return math.ceil(found.num_items * clusters_for_level(level) / found.num_clusters)
