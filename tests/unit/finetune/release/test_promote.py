"""Promote and roll back over a real MLflow store: what is refused, what is recorded, what a kill leaves."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.chain import Entry
from finetune.contracts.errors import GateError, PlatformError, RunError, SignatureError
from finetune.contracts.evaluation import EvaluationReport
from finetune.contracts.io import write_json
from finetune.contracts.run import Home, RunLayout
from finetune.contracts.seal import sealed
from finetune.evaluate.report import load_rows
from finetune.release.promote import Wish, chain_of, promote, roll_back
from finetune.release.registry import Registry
from finetune.tracking.home_store import open_client
from tests.unit.finetune.release.conftest import MODEL, build_report, recompute, register, save_adapter, save_report

WISH = Wish(alias="champion", who="ada", why="better")
Make = Callable[..., AdapterManifest]


def go(home: Home, manifest: AdapterManifest, report: Path | None = None) -> Entry:
    return promote(home, manifest.adapter_id, wish=WISH, report=report, gate=None, load=load_rows, recompute=recompute)[
        0
    ]


def live(home: Home) -> str:
    return str(open_client(home).get_registered_model(MODEL).aliases.get("champion", ""))


def kinds(home: Home) -> list[str]:
    return [entry.kind for entry in chain_of(home).read()]


def test_promote_moves_the_alias_and_records_who_what_and_why(home: Home, make_evaluated: Make) -> None:
    manifest = make_evaluated(1.0)
    entry = go(home, manifest)
    assert live(home) == "1" == entry.text("to")
    assert kinds(home) == ["evaluated", "promoting", "promoted"]
    assert (entry.text("who"), entry.text("why"), entry.text("from")) == ("ada", "better", "")
    assert entry.text("weights") == manifest.digests.weights
    assert "none were planted" in entry.text("warnings")


def test_what_the_home_s_policy_does_not_take_is_not_promoted(home: Home) -> None:
    manifest = save_adapter(home, 1.0)
    public = Path(__file__).parents[3] / "assets" / "signing" / "release.pem"
    home.trust.write_text(f"require_signature: true\nkeys: [{public}]\n")
    with pytest.raises(SignatureError, match=f"{manifest.adapter_id} is not signed"):
        go(home, manifest)
    assert kinds(home) == []


def test_without_a_report_nothing_goes_live(home: Home) -> None:
    manifest = save_adapter(home, 1.0)
    register(home, manifest)
    with pytest.raises(GateError, match="No report speaks for"):
        go(home, manifest)
    assert live(home) == ""


def test_the_report_of_other_weights_is_refused_by_name(home: Home, make_evaluated: Make) -> None:
    first, second = make_evaluated(1.0), make_evaluated(2.0)
    with pytest.raises(GateError, match=f"about {first.adapter_id}.*not about {second.adapter_id}"):
        go(home, second, RunLayout(home.runs / first.run_id).evaluation)
    assert live(home) == ""


def alter_figure(folder: Path) -> None:
    report = EvaluationReport.model_validate_json((folder / "report.json").read_bytes())
    first = report.suites[0]
    score = first.scores[0].model_copy(update={"difference": 9.0})
    suites = (first.model_copy(update={"scores": (score,)}), *report.suites[1:])
    write_json(folder / "report.json", sealed(report.model_copy(update={"suites": suites})))


def edit_figure(folder: Path) -> None:
    path = folder / "report.json"
    document = json.loads(path.read_text())
    document["suites"][0]["scores"][0]["difference"] = 9.0
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (alter_figure, "not in the record"),
        (edit_figure, "it was altered"),
        (lambda folder: (folder / "rows.parquet").write_bytes(b"other"), r"rows\.parquet .*altered"),
        (lambda folder: (folder / "answers.parquet").unlink(), r"answers\.parquet is missing"),
    ],
    ids=["resealed", "edited", "rows", "file"],
)
def test_a_tampered_report_is_refused_by_name(
    home: Home, make_evaluated: Make, alter: Callable[[Path], Any], said: str
) -> None:
    manifest = make_evaluated(1.0)
    alter(RunLayout(home.runs / manifest.run_id).evaluation)
    with pytest.raises(GateError, match=said):
        go(home, manifest)
    assert live(home) == "" and kinds(home) == ["evaluated"]


def test_figures_that_do_not_follow_from_the_rows_are_refused(home: Home, make_evaluated: Make) -> None:
    manifest = save_adapter(home, 3.0)
    report = build_report(manifest)
    score = report.scores[0].model_copy(update={"adapter": 0.9})
    lying = make_evaluated(4.0, suites=(report.suites[0].model_copy(update={"scores": (score,)}), *report.suites[1:]))
    with pytest.raises(GateError, match="do not follow from its rows"):
        go(home, lying)


def test_a_tampered_or_shortened_record_is_refused(home: Home, make_evaluated: Make) -> None:
    manifest = make_evaluated(1.0)
    go(home, manifest)
    content = home.releases.read_bytes()
    home.releases.write_bytes(content.replace(b'"who":"ada"', b'"who":"bob"'))
    with pytest.raises(RunError, match=r"releases\.jsonl:2:"):
        go(home, manifest)
    home.releases.write_bytes(b"".join(content.splitlines(keepends=True)[:2]))
    with pytest.raises(RunError, match="cut off or replaced"):
        go(home, manifest)
    home.releases.unlink()
    with pytest.raises(RunError, match="cut off or replaced"):
        go(home, manifest)


def test_the_gate_names_all_reasons_at_once(home: Home, make_evaluated: Make) -> None:
    report = build_report(save_adapter(home, 3.0))
    score = report.scores[0].model_copy(update={"verdict": "not shown", "num_items": 4, "num_clusters": 1})
    suites = (report.suites[0].model_copy(update={"scores": (score,)}), report.suites[1])
    manifest = make_evaluated(1.0, suites=suites, created_at=0)
    with pytest.raises(GateError) as caught:
        go(home, manifest)
    for figure in ("not shown", "number of tasks", "number of files", "leakage: the suite", "age"):
        assert figure in str(caught.value)
    assert caught.value.exit_code == 5 and live(home) == ""


def test_rollback_goes_to_the_version_before_and_no_further(home: Home, make_evaluated: Make) -> None:
    for manifest in (make_evaluated(1.0), make_evaluated(2.0)):
        go(home, manifest)
    assert live(home) == "2"
    assert roll_back(home, "", wish=WISH).text("to") == "1" == live(home)
    with pytest.raises(RunError, match="had no champion before"):
        roll_back(home, "", wish=WISH)
    assert kinds(home)[-2:] == ["rolling back", "rolled back"]


@pytest.mark.parametrize(("before_alias", "end"), [(True, "abandoned"), (False, "promoted")])
def test_a_kill_between_the_writes_is_settled_by_the_next_command(
    home: Home, make_evaluated: Make, monkeypatch: pytest.MonkeyPatch, before_alias: bool, end: str
) -> None:
    manifest = make_evaluated(1.0)
    move = Registry._set

    def killed(registry: Registry, alias: str, *, expected: str, to: str) -> bool:
        if not before_alias:
            move(registry, alias, expected=expected, to=to)
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "_set", killed)
    with pytest.raises(KeyboardInterrupt):
        go(home, manifest)
    monkeypatch.undo()
    assert kinds(home)[-1] == "promoting"
    go(home, manifest)
    assert kinds(home) == ["evaluated", "promoting", end, "promoting", "promoted"]
    assert live(home) == "1"


PROGRAM = """
import sys
from pathlib import Path
from finetune.contracts.run import Home
from tests.unit.finetune.release.test_promote import WISH, load_rows, recompute, promote
promote(Home(Path(sys.argv[1])), sys.argv[2], wish=WISH, report=None, gate=None, load=load_rows, recompute=recompute)
"""


@pytest.mark.slow
def test_six_processes_at_once_leave_one_consistent_record(home: Home, make_evaluated: Make) -> None:
    manifests = [make_evaluated(float(number)) for number in range(1, 7)]
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(home.root), manifest.adapter_id]) for manifest in manifests
    ]
    assert [process.wait(timeout=300) for process in started] == [0] * 6
    promoted = [entry for entry in chain_of(home).read() if entry.kind == "promoted"]
    assert sorted(entry.text("to") for entry in promoted) == [str(number) for number in range(1, 7)]
    assert live(home) == promoted[-1].text("to")
    assert [entry.text("from") for entry in promoted] == ["", *(entry.text("to") for entry in promoted[:-1])]


def test_an_adapter_that_is_not_registered_is_refused(home: Home) -> None:
    manifest = save_adapter(home, 1.0)
    save_report(home, build_report(manifest))
    with pytest.raises(PlatformError, match="not in the registry"):
        go(home, manifest)
