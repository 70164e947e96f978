"""A run during which something tried to leave has failed, or warns where its recipe says so; it is told everywhere."""

import json
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


def ended(home: Home) -> tuple[RunState, EgressReport]:
    (folder,) = home.runs.iterdir()
    layout = RunLayout(folder)
    state = RunState.model_validate_json(layout.state.read_bytes())
    return state, EgressReport.model_validate_json(layout.egress.read_bytes())


def test_a_run_that_kept_to_itself_says_so(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    train(resolved_tiny(), home, tracker)
    state, report = ended(home)
    assert state.status == "finished"
    assert report.attempts == () and report.command == "train"
    assert ("egress.json", "") in tracker.artifacts
    assert tracker.tags == {"egress.attempts": "0", "egress.layers": ", ".join(report.layers) or "none"}


def test_an_attempt_fails_the_run_when_all_is_written(resolved_tiny: Resolved, home: Home, leaky: Any) -> None:
    with pytest.raises(EgressError, match=r"during train, and was refused: .* to 192\.0\.2\.1:443") as caught:
        train(resolved_tiny(), home, leaky)
    state, report = ended(home)
    assert caught.value.exit_code == 4 and "egress.json" in caught.value.hint
    assert state.status == leaky.status == "failed"
    assert read_adapter(next(home.adapters.iterdir())).run_id == state.run_id, "the work is not lost"
    assert leaky.tags["egress.attempts"] == str(report.num_attempts) != "0"
    assert all(attempt.stack for attempt in report.attempts)


def test_a_recipe_may_say_to_warn(
    resolved_tiny: Resolved, home: Home, leaky: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    strict, lenient = resolved_tiny(), resolved_tiny("egress=warn")
    assert strict.digest() == lenient.digest(), "what is learned is the same"
    assert train(lenient, home, leaky).status == "finished"
    assert "Warning: Something tried to leave this machine during train" in capsys.readouterr().err
    assert ended(home)[1].attempts


def test_the_next_run_is_not_blamed_for_the_last(resolved_tiny: Resolved, home: Home, tracker: Any) -> None:
    note_attempt("socket.connect", ("192.0.2.1", 443), sys._getframe())
    with pytest.raises(EgressError):
        train(resolved_tiny(), home, tracker)
    assert train(resolved_tiny(), home, tracker).status == "finished"
    documents = [json.loads(path.read_bytes()) for path in sorted(home.runs.glob("*/egress.json"))]
    assert sorted(len(document["attempts"]) for document in documents) == [0, 1]
