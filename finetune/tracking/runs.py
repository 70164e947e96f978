"""Rows of `finetune runs list`: what each run came to."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from finetune.contracts.errors import RunError
from finetune.contracts.io import read_model
from finetune.contracts.run import Home
from finetune.recipe.resolve import ResolvedRecipe
from finetune.terminal.output import note
from finetune.tracking.mlflow import replay_all
from finetune.tracking.mlflow_store import read_runs


@dataclass(frozen=True)
class RunRow:
    """One run. started_at is seconds since 1970, UTC; figures and texts that do not exist yet are None.

    status is finished, failed, interrupted or running; loss is the last training loss in nats per token; bits_per_byte
    is on held-out files, of the base and of the adapter.
    """

    run_id: str
    recipe_name: str
    status: str
    started_at: int
    loss: float | None
    bits_per_byte_base: float | None
    bits_per_byte_adapter: float | None
    verdict: str | None
    adapter_id: str | None


def list_runs(home: Home) -> tuple[RunRow, ...]:
    """The runs in a home's own store, newest first, after what journals still hold was recorded.

    A note counts those that a server has. Raises MachineError when the store cannot be used.
    """
    replay_all(home)
    for server, count in servers_of(home).items():
        note(f"Not shown here: {count} of this home's runs, which MLflow's server at {server} has.")
    if not home.tracking_database.is_file():
        return ()
    return tuple(
        RunRow(
            run_id=record.run_id,
            recipe_name=record.tags.get("recipe", ""),
            status=record.status,
            started_at=record.started_at,
            loss=record.metrics.get("train/loss"),
            bits_per_byte_base=record.metrics.get("eval/bits_per_byte_base"),
            bits_per_byte_adapter=record.metrics.get("eval/bits_per_byte_adapter"),
            verdict=record.tags.get("verdict"),
            adapter_id=record.tags.get("adapter_id"),
        )
        for record in read_runs(home)
    )


def servers_of(home: Home) -> Counter[str]:
    """How many runs of a home each server was named for in their recipes; a damaged recipe counts for none."""
    found: Counter[str] = Counter()
    for path in home.runs.glob("*/recipe.resolved.json"):
        with suppress(RunError):
            server = read_model(path, ResolvedRecipe, error=RunError, hint="").track.server
            found.update([server] if server else [])
    return found
