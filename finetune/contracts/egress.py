"""EgressReport: what kept a command from the network, and what tried to leave all the same."""

from typing import Literal

from pydantic import Field

from finetune.contracts.dataset import Contract

EGRESS_NAME = "egress.json"
# whether a command fails at its end when something tried to leave, or says so and goes on
EgressMode = Literal["fail", "warn"]


class EgressAttempt(Contract):
    """Attempts of one process to reach one address, all refused.

    event is Python's audit event; library what our code had called, with its version where it has one; at is seconds
    since 1970, UTC, of the first, and stack its innermost lines, the innermost last.
    """

    event: str
    address: str
    library: str
    count: int = Field(ge=1)
    process: int
    at: float
    stack: tuple[str, ...]


class EgressProcess(Contract):
    """A process that was under the guard."""

    pid: int
    parent: int
    program: str


class EgressReport(Contract):
    """The record of one command. layers are those that were measured to hold when it ended, strongest first.

    processes are this one, which comes first, and those that it started and that run our code: programs such as git are
    held by the layers but for the audit hook, and counted nowhere.
    """

    schema_version: Literal[1] = 1
    command: str
    layers: tuple[str, ...]
    processes: tuple[EgressProcess, ...]
    attempts: tuple[EgressAttempt, ...]

    @property
    def num_attempts(self) -> int:
        """All of them."""
        return sum(attempt.count for attempt in self.attempts)

    def tags(self, prefix: str = "") -> dict[str, str]:
        """What a tracked run says of it in one line each."""
        return {
            f"{prefix}egress.layers": ", ".join(self.layers) or "none",
            f"{prefix}egress.attempts": str(self.num_attempts),
        }
