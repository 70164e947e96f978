"""The watch over a jail: processes come and go while it looks."""

import os

import pytest

from finetune.execution.watch import exceeds


def test_a_process_that_ends_while_it_is_looked_at_takes_no_memory_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exceeds(os.getpid(), 1 << 10)

    def ended(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "scandir", ended)
    monkeypatch.setattr(os, "listdir", ended)
    assert exceeds(os.getpid(), 1 << 10)
