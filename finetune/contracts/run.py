"""RunLayout and Home: the file names inside a run folder and inside the home of a site."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune.contracts.dataset import Contract
from finetune.contracts.egress import EGRESS_NAME
from finetune.contracts.votes import FILE_NAME


@dataclass(frozen=True)
class Home:
    """Where a site keeps its work: datasets, runs, adapters and the tracking store."""

    root: Path

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def data(self) -> Path:
        """What data builds found, so that the next does only what changed, and the key of placeholders."""
        return self.root / "data"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def trust(self) -> Path:
        """Whose adapters are taken: see contracts/trust.py. A person writes it; without it no signature is asked."""
        return self.root / "trust.yaml"

    @property
    def bases(self) -> Path:
        """Bases that were brought in, see contracts/bases.py, and 4-bit copies of large ones."""
        return self.root / "bases"

    @property
    def served(self) -> Path:
        """What servers of this home served last, a file for each port and base, with copies of the adapters.

        See serving/adapters/desired.py and copies.py.
        """
        return self.root / "served"

    @property
    def votes(self) -> Path:
        """Blind votes of this home's playground: see contracts/votes.py."""
        return self.served / FILE_NAME

    @property
    def cards(self) -> Path:
        """Who has each device, and who wants it: see contracts/card.py."""
        return self.root / "cards"

    @property
    def replicas(self) -> Path:
        """Copies of adapters that vLLM servers read, by the gateway's port: see serving/engines/replica_files.py."""
        return self.root / "replicas"

    @property
    def tasks(self) -> Path:
        """Folders of tasks that tests grade, one for each repository: see contracts/executed.py."""
        return self.root / "tasks"

    @property
    def measured(self) -> Path:
        """What evaluations measured, task by task: a killed one goes on, and a base is measured once."""
        return self.root / "measured"

    @property
    def releases(self) -> Path:
        """The record of evaluations and of what went live: see contracts/chain.py."""
        return self.root / "releases.jsonl"

    @property
    def withdrawals(self) -> Path:
        """Receipts of what was withdrawn because it was forgotten: see release/receipt.py."""
        return self.root / "withdrawals"

    @property
    def tracking_database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def tracking_artifacts(self) -> Path:
        return self.root / "mlartifacts"


@dataclass(frozen=True)
class RunLayout:
    """Names inside one run folder."""

    root: Path

    @property
    def state(self) -> Path:
        """run.json, a RunState: what `finetune evaluate` and `--resume` start from."""
        return self.root / "run.json"

    @property
    def resolved_recipe(self) -> Path:
        return self.root / "recipe.resolved.json"

    @property
    def journal(self) -> Path:
        """Every tracked point, one JSON document a line, written before the tracking store sees it."""
        return self.root / "tracking.jsonl"

    @property
    def sweep(self) -> Path:
        """sweep.json, in the folder of a sweep, which is no run of its own and has no run.json."""
        return self.root / "sweep.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that trains here."""
        return self.root / "run.lock"

    @property
    def forecast(self) -> Path:
        """What training was expected to take, and what it took."""
        return self.root / "forecast.json"

    @property
    def egress(self) -> Path:
        """What kept training from the network, and what tried to leave: an EgressReport."""
        return self.root / EGRESS_NAME

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def evaluation(self) -> Path:
        """The folder of the newest evaluation: see contracts/evaluation.py."""
        return self.root / "evaluation"


class RunState(Contract):
    """Where a run stands. adapter_id is None until the adapter is exported; paths are absolute.

    packed: whether rows share sequences, None before that is known. adapter_step is the step whose weights the adapter
    holds: the last one, or the best with train.stop_after_worse; bits_per_byte what the held-out sample came to then,
    and bits_per_byte_before with the base alone. None: not yet known, or nothing is held out.
    """

    schema_version: Literal[1] = 1
    run_id: str
    recipe_name: str
    base_path: str
    dataset_path: str
    dataset_digest: str
    tracking_run_id: str | None
    status: Literal["running", "finished", "failed", "interrupted"]
    steps_done: int
    steps_total: int
    packed: bool | None = None
    adapter_step: int | None = None
    bits_per_byte_before: float | None = None
    bits_per_byte: float | None = None
    adapter_id: str | None = None
