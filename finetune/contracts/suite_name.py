"""The suites of an evaluation, without the rest of its contract: a command names them before anything is loaded."""

from enum import StrEnum


class SuiteName(StrEnum):
    """What is asked: text never seen, gaps in it, functions that tests grade, old skills, secrets, and the base alone.

    heldout: bits per byte. infill: gaps filled greedily. executed: code graded by the repository's own tests.
    retention: general code and instructions, which must not get worse. leakage: what training text can be drawn out.
    control: the base with the repository's code in its prompt, against the adapter without.
    """

    HELDOUT = "heldout"
    INFILL = "infill"
    EXECUTED = "executed"
    RETENTION = "retention"
    LEAKAGE = "leakage"
    CONTROL = "control"
