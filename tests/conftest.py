"""What holds for every test."""

import os
import signal

import pytest

from finetune.guard import record
from finetune.guard.switches import offline_environment

# as in every command of ours: before a library is imported, which reads them then and never again
os.environ.update(offline_environment({}))
# a shell that is not interactive starts what it sends to the background deaf to it, children of that as well
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_egress_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's record is that of its process; tests share one, and some try to leave."""
    monkeypatch.delenv(record.JOURNAL_VARIABLE, raising=False)
    record._MEMORY.clear()
