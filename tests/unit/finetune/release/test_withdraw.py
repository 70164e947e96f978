"""Withdrawals over a real MLflow store: what is taken, what is refused afterwards, what a kill leaves."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune.adapters.find import find_usable
from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.chain import OpenChain, live_places
from finetune.contracts.errors import AdapterError, MachineError, RunError
from finetune.contracts.run import Home
from finetune.contracts.withdrawal import read_mark
from finetune.release import withdraw as module
from finetune.release.promote import chain_of, roll_back
from finetune.release.receipt import FoundAdapter
from finetune.release.registry import Registry
from finetune.release.withdraw import Why, withdraw
from finetune.tracking.home_store import HomeStore, open_client
from tests.unit.finetune.release.conftest import MODEL
from tests.unit.finetune.release.test_promote import WISH, Make, go, kinds, live

WHY = Why(who="ada", reason="forgotten: paths shop:src/legacy/*")


def found(manifest: AdapterManifest) -> FoundAdapter:
    return FoundAdapter(
        adapter_id=manifest.adapter_id,
        weights=manifest.digests.weights,
        run_id=manifest.run_id,
        folder="",
        dataset_digest="d",
        certainty="saw it",
    )


def take(home: Home, *manifests: AdapterManifest, unload: Any = lambda weights: {}) -> Any:
    return withdraw(home, [found(manifest) for manifest in manifests], why=WHY, unload=unload)


def tags(home: Home, version: str) -> dict[str, str]:
    return dict(open_client(home).get_model_version(MODEL, version).tags)


def assert_withdrawn(home: Home, manifest: AdapterManifest) -> None:
    """All that must hold after a withdrawal, whatever interrupted it."""
    entries = chain_of(home).read()
    ends = [entry for entry in entries if entry.kind == "withdrawn"]
    begun = [entry for entry in entries if entry.kind == "withdrawing"]
    assert [entry.text("weights") for entry in ends] == [manifest.digests.weights]
    assert len(begun) == 1 and ends[0].text("intent") == begun[0].digest
    assert (ends[0].text("alias"), ends[0].text("from")) == (f"{MODEL}@champion", f"{MODEL} 1")
    assert live(home) == "" and live_places(entries) == {}
    mark = read_mark(home.adapters, manifest.digests.weights)
    assert mark is not None and mark.entry == begun[0].digest
    assert tags(home, "1")["withdrawn"] == WHY.reason
    assert tags(home, "1")["withdrawn_entry"] == begun[0].digest
    said = open_client(home).get_model_version(MODEL, "1").description
    assert said == f"**Withdrawn by ada**: {WHY.reason}", "once, whatever was done again"
    head = next(value for key, value in open_client(home).get_registered_model(MODEL).tags.items() if "record" in key)
    assert head == f"{len(entries)}:{entries[-1].digest}"


def test_a_withdrawn_adapter_is_live_nowhere_and_refused_by_name(home: Home, make_evaluated: Make) -> None:
    manifest = make_evaluated(1.0)
    go(home, manifest)
    (told,) = take(home, manifest, unload=lambda weights: {manifest.digests.weights: ["ours"]})
    assert (told.aliases, told.versions, told.unloaded) == (f"{MODEL}@champion", f"{MODEL} 1", "ours")
    assert_withdrawn(home, manifest)
    assert (home.adapters / manifest.adapter_id).is_dir(), "it stays as evidence"
    for refused in (lambda: go(home, manifest), lambda: find_usable(home, manifest.adapter_id)):
        with pytest.raises(AdapterError, match=f"{manifest.adapter_id} was withdrawn on .* by ada: forgotten"):
            refused()


def test_to_withdraw_again_adds_nothing_unless_an_alias_was_set_by_hand(home: Home, make_evaluated: Make) -> None:
    manifest = make_evaluated(1.0)
    go(home, manifest)
    first = take(home, manifest)
    before = kinds(home)
    assert take(home, manifest) == first and kinds(home) == before
    open_client(home).set_registered_model_alias(MODEL, "champion", "1")
    take(home, manifest)
    assert live(home) == "" and kinds(home) == [*before, "withdrawn"]


def test_the_record_refuses_where_the_mark_is_gone_or_damaged(home: Home, make_evaluated: Make) -> None:
    manifest = make_evaluated(1.0)
    take(home, manifest)
    mark = next((home.adapters / ".withdrawn").iterdir())
    mark.write_text("{")
    with pytest.raises(AdapterError, match="is damaged"):
        go(home, manifest)
    mark.unlink()
    with pytest.raises(AdapterError, match="was withdrawn, as the record says"):
        go(home, manifest)
    take(home, manifest)
    assert read_mark(home.adapters, manifest.digests.weights) is not None


def test_rollback_passes_over_what_was_withdrawn(
    home: Home, make_evaluated: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (make_evaluated(value) for value in (1.0, 2.0, 3.0))
    for manifest in (first, second, third):
        go(home, manifest)
    take(home, second)
    assert live(home) == "3"
    assert roll_back(home, "", wish=WISH).text("to") == "1" == live(home)
    assert f"{second.adapter_id}, version 2, was withdrawn and is passed over" in capsys.readouterr().err
    with pytest.raises(RunError, match="had no champion before"):
        roll_back(home, "", wish=WISH)


def test_rollback_from_a_withdrawn_one_needs_no_files_of_it(home: Home, make_evaluated: Make) -> None:
    import shutil

    first, second = make_evaluated(1.0), make_evaluated(2.0)
    for manifest in (first, second):
        go(home, manifest)
    take(home, second)
    shutil.rmtree(home.adapters / second.adapter_id)
    assert roll_back(home, "", wish=WISH).text("to") == "1" == live(home)
    take(home, first)
    go(home, make_evaluated(3.0))
    with pytest.raises(AdapterError, match=f"before was withdrawn: {first.adapter_id}"):
        roll_back(home, "", wish=WISH)


def test_an_adapter_that_was_never_registered_is_withdrawn_too(home: Home, make_evaluated: Make) -> None:
    manifest = make_evaluated(1.0)
    home.tracking_database.unlink()
    (told,) = take(home, manifest)
    assert (told.aliases, told.versions) == ("", "") and kinds(home)[-2:] == ["withdrawing", "withdrawn"]
    assert not home.tracking_database.exists()


def test_where_the_store_is_away_the_marks_are_set_and_the_same_call_ends_it(
    home: Home, make_evaluated: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_evaluated(1.0)
    go(home, manifest)
    asked = []

    def away(store: HomeStore) -> None:
        raise MachineError("The store does not answer.", "Start it.")

    with monkeypatch.context() as patch:
        patch.setattr(HomeStore, "client", away)
        with pytest.raises(MachineError, match=f"does not answer.* {manifest.adapter_id}: marked as withdrawn"):
            take(home, manifest, unload=lambda weights: asked.append(weights) or {})
    assert asked == [[manifest.digests.weights]], "the endpoint does not wait for the store"
    assert read_mark(home.adapters, manifest.digests.weights) is not None and live(home) == "1"
    take(home, manifest)
    assert_withdrawn(home, manifest)


def test_a_record_that_was_cut_off_is_not_gone_on_with(home: Home, make_evaluated: Make) -> None:
    manifest = make_evaluated(1.0)
    go(home, manifest)
    lines = home.releases.read_bytes().splitlines(keepends=True)
    home.releases.write_bytes(b"".join(lines[:2]))
    with pytest.raises(RunError, match="cut off or replaced"):
        take(home, manifest)
    assert home.releases.read_bytes() == b"".join(lines[:2])
    assert read_mark(home.adapters, manifest.digests.weights) is None


STEPS: tuple[tuple[Any, str], ...] = (
    (OpenChain, "append"),
    (module, "write_mark"),
    (Registry, "take"),
    (Registry, "tag"),
    (Registry, "remember_head"),
)
NUM_MOMENTS = 12


def die_at(moment: int, die: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Let die be called at a moment, counted over all steps: right before one, and right after it."""
    passed = 0

    def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **options: Any) -> Any:
            nonlocal passed
            passed += 1
            if passed == moment:
                die()
            result = step(*args, **options)
            passed += 1
            if passed == moment:
                die()
            return result

        return around

    for owner, name in STEPS:
        patch.setattr(owner, name, wrapped(getattr(owner, name)))


FEW = (3, 8)


@pytest.mark.parametrize(
    "moment", [pytest.param(n, marks=() if n in FEW else pytest.mark.slow) for n in range(1, NUM_MOMENTS + 1)]
)
def test_whatever_step_is_the_last_the_same_call_ends_it(
    home: Home, make_evaluated: Make, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    manifest = make_evaluated(1.0)
    go(home, manifest)

    def die() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        die_at(moment, die, patch)
        with pytest.raises(KeyboardInterrupt):
            take(home, manifest)
    take(home, manifest)
    assert_withdrawn(home, manifest)


PROGRAM = """
import os, signal, sys
from pathlib import Path
import pytest
from finetune.contracts.run import Home
from finetune.release.receipt import FoundAdapter
from tests.unit.finetune.release.test_withdraw import WHY, die_at, withdraw
die_at(int(sys.argv[3]), lambda: os.kill(os.getpid(), signal.SIGKILL), pytest.MonkeyPatch())
found = FoundAdapter.model_validate_json(sys.argv[2])
withdraw(Home(Path(sys.argv[1])), [found], why=WHY, unload=lambda weights: {})
"""


@pytest.mark.slow
def test_a_process_killed_at_any_step_is_finished_by_the_next(home: Home, make_evaluated: Make) -> None:
    manifest = make_evaluated(1.0)
    go(home, manifest)
    # each goes on with what the one before left, so that fewer steps are left to be killed at
    for moment in range(1, NUM_MOMENTS + 1, 2):
        arguments = [sys.executable, "-c", PROGRAM, str(home.root), found(manifest).model_dump_json(), str(moment)]
        code = subprocess.run(arguments, timeout=300, check=False, cwd=Path(__file__).parents[4]).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
    take(home, manifest)
    assert_withdrawn(home, manifest)


@pytest.mark.slow
def test_nothing_kills_after_the_last_moment(home: Home, make_evaluated: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = make_evaluated(1.0)
    go(home, manifest)
    die_at(NUM_MOMENTS + 1, os.abort, monkeypatch)
    take(home, manifest)
    assert_withdrawn(home, manifest)
