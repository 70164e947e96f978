"""Shares of things found, with intervals, and how a canary ranks among controls that no training saw."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from finetune.evaluate.stats import share_interval

FALSE_POSITIVES = 0.01
MIN_CONTROLS = 100
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Share:
    """successes of trials as a share, with its exact 95 % interval (Clopper and Pearson 1934); 0 to 1 for no trials."""

    successes: int
    trials: int

    @property
    def value(self) -> float:
        return self.successes / self.trials if self.trials else 0.0

    def interval(self) -> tuple[float, float]:
        """The ends of the interval."""
        if not self.trials:
            return 0.0, 1.0
        return share_interval(self.successes, self.trials)


def ranks(scores: Sequence[float], controls: Sequence[float]) -> list[int]:
    """For each score, 1 + how many controls are as high or higher: 1 stands above all of them."""
    ordered = np.sort(np.asarray(controls, dtype=float))
    return [1 + len(ordered) - int(np.searchsorted(ordered, score, side="left")) for score in scores]


def recognised(scores: Sequence[float], controls: Sequence[float]) -> Share:
    """The share of scores that are told from controls at 1 % false positives.

    rank / (number of controls + 1) is the conformal p-value of a score: were it drawn as the controls are, it would be
    at most 0.01 in no more than 1 % of draws, however scores are distributed (Bates et al. 2023, doi
    10.1214/22-AOS2244, equation 3). With fewer than 99 controls none can be that small.
    """
    found = [rank / (len(controls) + 1) <= FALSE_POSITIVES for rank in ranks(scores, controls)]
    return Share(sum(found), len(found))


def exposures(scores: Sequence[float], controls: Sequence[float]) -> list[float]:
    """log2 of the number of candidates - log2 of the rank among them, in bits (Carlini et al. 2019, arXiv 1802.08232).

    The candidates are the controls and the canary itself: by chance 1.4 bits on average, log2(controls + 1) at most.
    """
    return [math.log2(len(controls) + 1) - math.log2(rank) for rank in ranks(scores, controls)]


def mean_interval(values: Sequence[float], *, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean; of values that are all equal it is that value."""
    if len(values) < 2 or len(set(values)) == 1:
        return min(values), max(values)
    found = stats.bootstrap(
        (np.asarray(values),), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
