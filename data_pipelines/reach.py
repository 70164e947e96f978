"""Whom a build must reach: its teacher, Ray's processes on this machine, or the cluster that does the work."""

from contextlib import suppress

from data_pipelines.config import PipelineConfig
from finetune.contracts.errors import MachineError
from finetune.guard.endpoint import Endpoint
from finetune.guard.jail import Needs


def needs(config: PipelineConfig) -> Needs:
    """Raises InputError for a teacher that may not be spoken to; one that is unknown here is left out."""
    run = config.run
    if run.executor == "slurm" or run.ray_address:
        return Needs(network=f"run.executor {run.executor} lets other machines do the work")
    qa = config.tasks.qa
    found: list[Endpoint] = []
    if qa.enabled and qa.teacher is not None:
        from data_pipelines.questions.teacher import endpoint_of

        # the build tells of it, and does all that needs no teacher
        with suppress(MachineError):
            found.append(endpoint_of(qa.teacher))
    ray = "the processes of Ray speak to each other over TCP" if run.executor == "ray" else ""
    return Needs(endpoints=tuple(found), loopback=ray)
