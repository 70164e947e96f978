"""Is a loaded adapter live? Compare what it answers to its reference probe with what it answered when it was made."""

import math
from collections.abc import Sequence

from finetune.contracts.adapter import ReferenceProbe
from finetune.contracts.errors import AdapterError
from serving.engines.base import ProbeReading
from serving.errors import AdapterConflictError

# Nats. The base is measured with and without an adapter by the same arithmetic, so an adapter without effect gives 0
EFFECT_FLOOR = 1e-4
# Nats, mean over the tokens. 16-bit arithmetic on another machine moved the mean by 0.003
MATCH_TOLERANCE = 0.05
# Another quantization or kernel moves base and adapter alike: the base's own shift tells how much to allow
BASE_SHIFT_SHARE = 2.0
MAX_BASE_SHIFT = 0.5
HINT = "Evaluate and export the adapter again over the base that is served, then load that."


def judge(reading: ProbeReading, probe: ReferenceProbe) -> None:
    """Raise AdapterError unless the adapter acts, and acts as it did where it was made.

    Raises AdapterConflictError when it leaves the base's answer as it was (the silent failure of every engine that
    skips tensors it cannot place) and when it answers differently from its record.
    """
    rows = (reading.base_log_probs, reading.adapter_log_probs, probe.base_log_probs, probe.adapter_log_probs)
    if len({len(row) for row in rows}) != 1 or not probe.adapter_log_probs:
        raise AdapterError("The adapter's reference probe is incomplete.", HINT)
    if not all(math.isfinite(value) for row in rows for value in row):
        raise AdapterError("The adapter's answer to its reference probe is not a number.", HINT)
    effect = max(abs(a - b) for a, b in zip(reading.adapter_log_probs, reading.base_log_probs, strict=True))
    if effect <= EFFECT_FLOOR:
        raise AdapterConflictError("The adapter does not change the base's answer: it would be served in vain.", HINT)
    base_shift = mean_difference(reading.base_log_probs, probe.base_log_probs)
    if base_shift > MAX_BASE_SHIFT:
        raise AdapterConflictError(
            f"The base itself answers the adapter's reference probe {base_shift:.3f} nats apart from the record.", HINT
        )
    shift = mean_difference(reading.adapter_log_probs, probe.adapter_log_probs)
    if shift > MATCH_TOLERANCE + BASE_SHIFT_SHARE * base_shift:
        raise AdapterConflictError(
            f"The adapter answers its reference probe {shift:.3f} nats apart from the record; "
            f"the base {base_shift:.3f}.",
            HINT,
        )


def mean_difference(left: Sequence[float], right: Sequence[float]) -> float:
    """Mean absolute difference of two rows of equal length."""
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)
