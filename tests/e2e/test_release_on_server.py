"""Promote, roll back and withdraw where runs are recorded at a real MLflow server, and what is said when it is away."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune.cli.main import run
from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.chain import record_evaluation
from finetune.contracts.errors import MachineError
from finetune.contracts.io import digest_file
from finetune.contracts.run import Home, RunLayout
from finetune.contracts.withdrawal import read_mark
from finetune.release.promote import chain_of, roll_back
from finetune.tracking.base import RunCard
from finetune.tracking.mlflow import MlflowTracker
from tests.e2e.mlflow_server import Server
from tests.unit.finetune.release.conftest import MODEL, build_report, save_adapter, save_report
from tests.unit.finetune.release.test_promote import WISH, go
from tests.unit.finetune.release.test_withdraw import take

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    made.start()
    yield made
    made.kill()


def recorded(home: Home, server: Server, value: float) -> AdapterManifest:
    """An adapter that a tracked run registered at the server, with a report that is recorded."""
    manifest = save_adapter(home, value)
    layout = RunLayout(home.runs / manifest.run_id)
    layout.root.mkdir(parents=True)
    tracker = MlflowTracker(home, layout, server=server.address)
    tracker.start(RunCard(manifest.run_id, "finetune", "shop", parameters={}, tags={}))
    tracker.register(manifest, home.adapters / manifest.adapter_id, MODEL)
    tracker.finish("finished")
    report = build_report(manifest)
    record_evaluation(chain_of(home), report, digest=digest_file(save_report(home, report) / "report.json"))
    return manifest


def champion(server: Server) -> str:
    return str(server.client().get_registered_model(MODEL).aliases.get("champion", ""))


def test_aliases_move_at_the_server_and_nothing_is_made_in_the_home(
    home: Home, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = recorded(home, server, 1.0), recorded(home, server, 2.0)
    assert capsys.readouterr().out == "", "mlflow would print where to see the run"
    assert (go(home, first).text("to"), go(home, second).text("to")) == ("1", "2")
    assert champion(server) == "2"
    assert roll_back(home, "", wish=WISH).text("to") == "1" == champion(server)
    go(home, second)
    (told,) = take(home, second)
    assert told.aliases == f"{MODEL}@champion" and champion(server) == ""
    assert "forgotten" in server.client().get_model_version(MODEL, "2").tags["withdrawn"]
    assert roll_back(home, "", wish=WISH).text("to") == "1" == champion(server)
    assert run(["adapter", "history", "--home", str(home.root), "--json"]) == 0
    kinds = [entry["kind"] for entry in json.loads(capsys.readouterr().out)["entries"]]
    assert kinds[-4:] == ["withdrawing", "withdrawn", "rolling back", "rolled back"]
    assert not home.tracking_database.exists()


def test_a_server_that_is_away_is_named_with_what_to_do(
    home: Home, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = recorded(home, server, 1.0), recorded(home, server, 2.0)
    for manifest in (first, second):
        go(home, manifest)
    before = home.releases.read_bytes()
    server.kill()
    options = ["--home", str(home.root)]
    for command in (["adapter", "promote", first.adapter_id], ["adapter", "rollback"]):
        assert run([*command, *options]) == 4
        said = capsys.readouterr().err
        assert f"MLflow's server at {server.address} does not answer" in said
        assert "Start that server again, then type the same" in said
        assert home.releases.read_bytes() == before
    assert run(["adapter", "history", *options]) == 0
    assert run(["adapter", "inspect", second.adapter_id, *options]) == 0
    assert f"{MODEL}@champion" in capsys.readouterr().out
    with pytest.raises(MachineError, match=f"does not answer.*{second.adapter_id}: marked as withdrawn"):
        take(home, second)
    assert read_mark(home.adapters, second.digests.weights) is not None
    server.start()
    assert champion(server) == "2"
    take(home, second)
    assert champion(server) == ""
    assert roll_back(home, "", wish=WISH).text("to") == "1" == champion(server)
