"""Reporting: the bar shows loss, speed and time left; the tracker gets each logged step in the agreed groups."""

import io
from typing import Any

import pytest

from finetune.terminal.progress import Progress
from finetune.train.reporting import Reporter, peak_memory_bytes
from finetune.train.utilisation import Utilisation, Work


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_the_bar_shows_loss_speed_and_time_left(tracker: Any, clock: list[float]) -> None:
    stream = Terminal()
    with Progress("Training", 4, stream=stream) as progress:
        reporter = Reporter(tracker, progress, step_tokens=[1000] * 4, on_saved=print)
        clock[0] += 2
        reporter.step_done(1, 1.5)
    assert "1/4  loss 1.500  500 tokens/s  6 s left" in stream.getvalue()


def test_logged_steps_reach_the_tracker(tracker: Any, clock: list[float]) -> None:
    reporter = Reporter(tracker, Progress("", 9, stream=Terminal()), step_tokens=[100] * 9, on_saved=print, start_at=4)
    clock[0] += 1
    reporter.logged(6, loss=2.0, learning_rate=1e-3, gradient_norm=0.5)
    clock[0] += 2
    reporter.logged(8, loss=1.0, learning_rate=1e-4, gradient_norm=0.4)
    assert tracker.values("train/loss") == [(6, 2.0), (8, 1.0)]
    assert tracker.values("train/tokens_per_second") == [(6, pytest.approx(200)), (8, pytest.approx(100))]
    assert {name.split("/")[0] for _, values in tracker.points for name in values} == {"train", "system"}
    figures = reporter.figures(8)
    assert figures is not None
    assert (figures.first_loss, figures.last_loss, figures.seconds) == (2.0, 1.0, 3.0)
    assert figures.tokens_per_second == pytest.approx(400 / 3)


def test_utilisation_is_that_of_the_steps_since_the_last_point(tracker: Any, clock: list[float]) -> None:
    work = Utilisation((Work(1, 1e12, 2e12),) * 4, peak_tflops=1.0)
    reporter = Reporter(
        tracker, Progress("", 4, stream=Terminal()), step_tokens=[1] * 4, on_saved=print, utilisation=work
    )
    clock[0] += 50
    reporter.begun()
    clock[0] += 2
    reporter.logged(1, loss=2.0, learning_rate=1e-3, gradient_norm=0.5)
    clock[0] += 8
    reporter.logged(3, loss=2.0, learning_rate=1e-3, gradient_norm=0.5)
    assert tracker.values("train/model_flop_utilisation_percent") == [(1, 50.0), (3, 25.0)]
    assert tracker.values("train/hardware_flop_utilisation_percent") == [(1, 100.0), (3, 50.0)]
    figures = reporter.figures(3)
    assert figures is not None
    # what came before the first step is no training
    assert (figures.seconds, figures.utilisation_percent) == (10.0, pytest.approx(30.0))


def test_nothing_logged_has_no_figures(tracker: Any) -> None:
    reporter = Reporter(tracker, Progress("", 1, stream=Terminal()), step_tokens=[1], on_saved=print)
    assert reporter.figures(0) is None


def test_saves_are_passed_on(tracker: Any) -> None:
    saved: list[int] = []
    Reporter(tracker, Progress("", 1, stream=Terminal()), step_tokens=[1], on_saved=saved.append).saved(3)
    assert saved == [3]


def test_memory_is_that_of_this_process() -> None:
    assert 2**24 < peak_memory_bytes() < 2**40
