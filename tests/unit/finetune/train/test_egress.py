"""A run during which something tried to leave has failed, or warns where its recipe says so; it is told everywhere."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.adapter_files import read_adapter
from finetune.contracts.egress import EgressReport
from finetune.contracts.errors import EgressError
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.guard.record import JOURNAL_VARIABLE, note_attempt
from finetune.recipe.resolve import ResolvedRecipe
from finetune.train.sft import train

pytestmark = pytest.mark.slow
Resolved = Callable[..., ResolvedRecipe]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv(JOURNAL_VARIABLE, str(tmp_path / "journal"))
    return Home(tmp_path / "home")


@pytest.fixture
def leaky(tracker: Any) -> Any:
    """A tracker at whose first metrics something is refused, and swallows that: only the record knows."""
    keep = tracker.metrics

    def metrics(step: int, values: Mapping[str, float]) -> None:
        keep(step, values)
        note_attempt("socket.connect", ("192.0.2.1", 443), sys._getframe())

    tracker.metrics = metrics
    return tracker


def ended(home: Home, run_id: str) -> tuple[RunState, EgressReport]:
    layout = RunLayout(home.runs / run_id)
    state = RunState.model_validate_json(layout.state.read_bytes())
    return state, EgressReport.model_validate_json(layout.egress.read_bytes())


def test_an_attempt_fails_a_run_when_all_is_written(resolved_tiny: Resolved, home: Home, leaky: Any) -> None:
    with pytest.raises(EgressError, match=r"during train, and was refused: .* to 192\.0\.2\.1:443") as caught:
        train(resolved_tiny(), home, leaky, run_id="only")
    state, report = ended(home, "only")
    assert caught.value.exit_code == 4 and "egress.json" in caught.value.hint
    assert state.status == leaky.status == "failed"
    assert read_adapter(next(home.adapters.iterdir())).run_id == state.run_id, "the work is not lost"
    assert ("egress.json", "") in leaky.artifacts
    assert leaky.tags["egress.attempts"] == str(report.num_attempts) != "0"
    assert leaky.tags["egress.layers"] == (", ".join(report.layers) or "none")
    assert all(attempt.stack for attempt in report.attempts)


def test_a_recipe_may_say_to_warn(
    resolved_tiny: Resolved, home: Home, leaky: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    strict, lenient = resolved_tiny(), resolved_tiny("egress=warn")
    assert strict.digest() == lenient.digest(), "what is learned is the same"
    assert train(lenient, home, leaky, run_id="only").status == "finished"
    assert "Warning: Something tried to leave this machine during train" in capsys.readouterr().err
    assert ended(home, "only")[1].attempts
