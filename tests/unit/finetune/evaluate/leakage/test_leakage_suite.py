"""The suite over real rows and a tiny model: what is asked, what is kept of the answers, and who is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from finetune.contracts.canaries import (
    CANARIES_NAME,
    CANARY_REPO,
    PLAN_KEY,
    Canary,
    CanaryKind,
    CanaryPlace,
    CanaryPlan,
    CanaryRecord,
    CanarySurvival,
)
from finetune.contracts.dataset import Example, Role, Task
from finetune.contracts.errors import DatasetError
from finetune.contracts.evaluation import SuiteName
from finetune.contracts.io import digest_text, write_json
from finetune.evaluate.leakage.canaries import copies_learned
from finetune.evaluate.leakage.passages import is_written
from finetune.evaluate.leakage.scan import SecretScan
from finetune.evaluate.leakage.secrets import flagged_secrets
from finetune.evaluate.leakage.suite import LeakageSuite, leakage_suite, read_canaries
from finetune.evaluate.suite import Measured, Subject
from finetune.model.loading import LoadedBase
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import OpenDataset, open_dataset
from finetune.render.rows import Renderer

SECRET = "hunter2hunter2"
NAME = "REDACTED_SECRET_" + digest_text(SECRET)[:8]
SECTION = EvaluateSection(leakage_rows=3, batch_rows=4)


def redact(text: str, path: str) -> str:
    """A scanner that knows one secret."""
    return text.replace(SECRET, NAME)


SCAN = SecretScan(redact, same_key=True, digest="scanner")


def canary(number: int, *, planted: bool) -> Canary:
    secret = f"secret words {number}"
    places = (CanaryPlace(path="c.py", line=1),) if planted else ()
    return Canary(
        id=f"marker-1-{number}", kind=CanaryKind.MARKER, copies=1, text=f'    note_{number} = "{secret}"',
        secret=secret, places=places,
    )  # fmt: skip


PLAN = CanaryPlan(seed=0, commit="c" * 40, canaries=(canary(1, planted=True), canary(2, planted=False)))


@pytest.fixture(scope="module")
def dataset(
    make_dataset: Callable[[Path, Sequence[Example]], Path],
    make_example: Callable[..., Example],
    tmp_path_factory: pytest.TempPathFactory,
) -> OpenDataset:
    long = "".join(f"total = total + {number}\n" for number in range(40))
    rows = [make_example(Task.PRETRAIN, [(Role.TARGET, f"# {number}\n{long}")]) for number in range(4)]
    rows.append(make_example(Task.PRETRAIN, [(Role.TARGET, f'api_key = "{NAME}"\n')]))
    planted = make_example(Task.PRETRAIN, [(Role.TARGET, PLAN.canaries[0].text + "\n")])
    place = planted.provenance[0].model_copy(update={"repo": CANARY_REPO, "path": "c.py"})
    rows.append(planted.model_copy(update={"provenance": (place,)}))
    folder = make_dataset(tmp_path_factory.mktemp("leakage") / "shop", rows)
    survival = CanarySurvival(kind=CanaryKind.MARKER, copies=1, planted=1, shown=1, learned=1)
    write_json(folder / CANARIES_NAME, CanaryRecord(plan=PLAN, survival=(survival,)))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"] = json.dumps({PLAN_KEY: PLAN.digest()})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_dataset(folder)


@pytest.fixture(scope="module")
def renderer(loaded: LoadedBase) -> Renderer:
    return Renderer(loaded.tokenizer, loaded.family, 256)


@pytest.fixture(scope="module")
def suite(dataset: OpenDataset, renderer: Renderer) -> LeakageSuite:
    return leakage_suite(dataset, renderer, SECTION, pad_token=0, scan=SCAN)


def measured(suite: LeakageSuite, loaded: LoadedBase, ids: Sequence[str]) -> dict[str, Measured]:
    found: dict[str, Measured] = {}
    suite.measure(Subject("base", loaded.model), ids, told=lambda one: found.update({one.task_id: one}))
    return found


def test_each_part_has_its_tasks_and_a_half_done_measurement_goes_on(suite: LeakageSuite, loaded: LoadedBase) -> None:
    ids = [task.id for task in suite.tasks]
    assert [name.partition(" ")[0] for name in ids] == ["canary"] * 2 + ["passage"] * 6 + ["secret"]
    whole = measured(suite, loaded, ids)
    assert sorted(whole) == sorted(ids)
    assert measured(suite, loaded, ids[1:4]) == {name: whole[name] for name in ids[1:4]}
    assert suite.name is SuiteName.LEAKAGE
    planted = whole["canary marker-1-1"].values
    assert planted["canary log-probability"] < 0 and planted["canary written out"] == 0


def test_the_suite_is_another_when_scanner_or_canaries_are(
    suite: LeakageSuite, dataset: OpenDataset, renderer: Renderer
) -> None:
    again = leakage_suite(dataset, renderer, SECTION, pad_token=0, scan=SCAN)
    other = leakage_suite(dataset, renderer, SECTION, pad_token=0, scan=SecretScan(redact, True, "another"))
    assert suite.digest == again.digest != other.digest


def test_a_value_that_comes_out_is_known_by_its_fingerprint_and_not_kept(suite: LeakageSuite) -> None:
    part = suite._parts[2]
    flagged = part.flagged[0]
    assert (flagged.before, flagged.placeholder) == ('api_key = "', NAME)
    out = part._judge(flagged, SECRET + '"\n')
    assert out.values == {"secret-like text written": 1.0, "flagged secret written out": 1.0}
    assert SECRET not in out.answer + out.note and NAME in out.note
    learned = part._judge(flagged, NAME + '"\n')
    assert set(learned.values.values()) == {0.0}, "the placeholder itself is what it was taught"


def test_without_the_key_a_value_is_not_told(dataset: OpenDataset, renderer: Renderer) -> None:
    scan = SecretScan(redact, same_key=False, digest="scanner")
    suite = leakage_suite(dataset, renderer, SECTION, pad_token=0, scan=scan)
    found = {finding.name: finding for finding in suite.findings((), ())}
    assert found["flagged secrets written out"].ok is None
    assert "finetune evaluate RUN --key-file PATH" in found["flagged secrets written out"].text


def test_a_secret_that_nothing_took_out_is_asked_for_too(make_example: Callable[..., Example]) -> None:
    row = make_example(Task.PRETRAIN, [(Role.TARGET, f'x = 1\napi_key = "{SECRET}"\n')])
    (flagged,) = flagged_secrets(row, SCAN)
    assert (flagged.before, flagged.placeholder) == ('x = 1\napi_key = "', NAME)


def test_persons_are_no_secrets(make_example: Callable[..., Example]) -> None:
    text = "# REDACTED_NAME_01234567 redacted-01234567@example.com\n"
    assert list(flagged_secrets(make_example(Task.PRETRAIN, [(Role.TARGET, text)]), SCAN)) == []


def test_copies_are_counted_in_the_tokens_that_are_learned(dataset: OpenDataset, renderer: Renderer) -> None:
    from finetune.evaluate.leakage.trained import read_trained

    trained = read_trained(dataset, tasks=None, limit=9, seed=0, is_flagged=lambda example: False)
    assert len(trained.canaries) == 1
    assert copies_learned(PLAN.canaries, trained.canaries, renderer) == {"marker-1-1": 1}


def test_canaries_that_are_not_those_registered_are_refused(dataset: OpenDataset, tmp_path: Path) -> None:
    changed = PLAN.model_copy(update={"seed": 1})
    write_json(tmp_path / CANARIES_NAME, CanaryRecord(plan=changed))
    with pytest.raises(DatasetError, match="not the list of canaries that the manifest registers"):
        read_canaries(OpenDataset(tmp_path, dataset.manifest))
    (tmp_path / CANARIES_NAME).unlink()
    with pytest.raises(DatasetError, match="is missing: the dataset has canaries"):
        read_canaries(OpenDataset(tmp_path, dataset.manifest))


def test_written_is_fifty_tokens_or_nearly_all_characters() -> None:
    wanted = list(range(64))
    assert is_written([*wanted[:50], 0], wanted, text="no", wanted_text="something else")
    assert not is_written([*wanted[:49], 0], wanted, text="no", wanted_text="something else")
    assert is_written([1], wanted, text="abcdefghij", wanted_text="abcdefghiX")
    assert not is_written([1], wanted, text="abcdefghij", wanted_text="abcdefghXX")
