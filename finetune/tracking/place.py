"""Where runs are recorded: a home's own store, or MLflow's server."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from finetune.contracts.errors import MachineError, PlatformError


class StorePlace(Protocol):
    """A place that an MlflowClient speaks to. server is its address, None for a file of the home."""

    server: str | None

    def client(self) -> Any:
        """An MlflowClient of this place. Raises MachineError when it cannot be used."""
        ...

    def check(self, wait_seconds: float) -> None:
        """Raise MachineError unless the place can be written within wait_seconds; it must cost little."""
        ...

    def errors(self) -> AbstractContextManager[None]:
        """Whatever mlflow raises inside the block, as a MachineError that names the place."""
        ...

    def artifact_location(self, experiment: str) -> str | None:
        """Where a new experiment keeps its artifacts, as a URI; None leaves it to the server."""
        ...


@contextmanager
def store_errors(name: str, hint: str) -> Iterator[None]:
    """Whatever mlflow or its database layer raises, as the error of a machine that cannot; name is the store's."""
    try:
        yield
    except PlatformError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MachineError(f"The tracking store {name} cannot be used: {reason}", hint) from error
