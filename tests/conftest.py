"""What holds for every test."""

import pytest

from finetune.guard import record


@pytest.fixture(autouse=True)
def _own_egress_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's record is that of its process; tests share one, and some try to leave."""
    monkeypatch.delenv(record.JOURNAL_VARIABLE, raising=False)
    record._MEMORY.clear()
