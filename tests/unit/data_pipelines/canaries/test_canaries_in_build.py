"""Canaries go the way of the company's own code, and that code goes where it would go without them."""

import json

import pytest

from data_pipelines.canaries.plan import draw_canaries
from data_pipelines.config import CanarySection, PipelineConfig
from data_pipelines.sources.git import open_repository
from finetune.contracts.canaries import CANARIES_NAME, CANARY_REPO, PLAN_KEY, CanaryKind, CanaryRecord
from finetune.contracts.dataset import Split
from finetune.contracts.errors import UsageError
from tests.unit.data_pipelines.building import build, bytes_of, data_folder, rows_of

CANARIES = {"enabled": True, "per_tier": 2, "controls_per_tier": 3}


def record_of(out):
    return CanaryRecord.model_validate_json((out / CANARIES_NAME).read_bytes())


def survivors(out):
    return {(row.kind, row.copies): (row.planted, row.shown, row.learned) for row in record_of(out).survival}


@pytest.fixture(scope="module")
def built(shop, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "shop"
    return out, build([shop], out, canaries=CANARIES)


def test_redaction_takes_every_credential_and_leaves_every_marker(built):
    found = survivors(built[0])
    for copies in (1, 4, 16):
        assert found[CanaryKind.CREDENTIAL, copies] == (2 * copies, 0, 0)
        assert found[CanaryKind.MARKER, copies] == (2 * copies,) * 3
    text = "".join(segment.text for row in rows_of(built[0]) for segment in row.segments)
    assert not [
        canary.id for canary in record_of(built[0]).plan.canaries if canary.is_control and canary.secret in text
    ]


def test_without_redaction_credentials_come_through(shop, tmp_path):
    build([shop], tmp_path / "out", canaries=CANARIES, redact={"secrets": False})
    assert survivors(tmp_path / "out")[CanaryKind.CREDENTIAL, 16] == (32, 32, 32)


def test_canaries_are_registered_before_they_are_seen_and_their_rows_say_what_they_are(built):
    out, manifest = built
    plan = record_of(out).plan
    settings = json.loads(manifest.settings)
    assert settings[PLAN_KEY] == plan.digest()
    assert settings["canaries"]["per_tier"] == 2
    assert manifest.sources[-1].repo == CANARY_REPO and manifest.sources[-1].commit == plan.commit
    known = {canary.secret for canary in plan.canaries}
    for row in rows_of(out):
        from_canaries = row.provenance[0].repo == CANARY_REPO
        assert from_canaries or not any(secret in part.text for part in row.segments for secret in known)
        if from_canaries:
            assert row.split is Split.TRAIN and row.visibility == "internal"


def test_provenance_of_a_canary_leads_to_its_line(built):
    out, _ = built
    plan = record_of(out).plan
    work = next(path for path in data_folder(out).iterdir() if path.is_dir())
    with open_repository(work / "canary.git", name=CANARY_REPO) as repository:
        assert repository.commit == plan.commit
        blobs = {entry.path.decode(): entry.blob for entry in repository.entries()}
        for canary in plan.canaries:
            assert len({place.path for place in canary.places}) in (0, canary.copies)
            for place in canary.places:
                assert (
                    repository.content(blobs[place.path], max_bytes=100_000).decode().splitlines()[place.line - 1]
                    == canary.text
                )
        for row in rows_of(out, "train"):
            if row.provenance[0].repo == CANARY_REPO:
                assert all(blobs[place.path] == place.blob for place in row.provenance)


def test_the_companys_rows_are_those_that_it_has_without_canaries(built, shop, tmp_path):
    build([shop], tmp_path / "plain")
    own = [row for row in rows_of(built[0]) if row.provenance[0].repo != CANARY_REPO]
    assert {row.id: row for row in own} == {row.id: row for row in rows_of(tmp_path / "plain")}
    assert not (tmp_path / "plain" / CANARIES_NAME).exists()


def test_building_again_changes_nothing_and_no_file_of_it_is_foreign(built, shop, tmp_path):
    out, manifest = built
    before = bytes_of(out)
    assert build([shop], out, canaries=CANARIES) == manifest
    build([shop], tmp_path / "again", canaries=CANARIES)
    assert bytes_of(out) == before
    assert (tmp_path / "again" / CANARIES_NAME).read_bytes() == before[CANARIES_NAME]


def test_canaries_switched_off_again_are_gone(shop, tmp_path):
    build([shop], tmp_path / "out", canaries=CANARIES)
    build([shop], tmp_path / "out")
    assert not (tmp_path / "out" / CANARIES_NAME).exists()
    assert not [row for row in rows_of(tmp_path / "out") if row.provenance[0].repo == CANARY_REPO]


def test_a_source_of_that_name_is_refused(make_repository, shop, tmp_path):
    make_repository("canary").commit({"a.py": "x = 1\n"})
    with pytest.raises(UsageError, match='A source is called "canary"'):
        build([shop, tmp_path / "canary"], tmp_path / "out", canaries=CANARIES)


def test_canaries_alone_are_no_dataset(make_repository, tmp_path):
    repository = make_repository("notes")
    repository.commit({"README.md": "# Nothing to learn here\n"})
    with pytest.raises(Exception, match=r"Nothing in .*notes can be used"):
        build([repository.path], tmp_path / "out", canaries=CANARIES)


def test_the_seed_draws_the_canaries_and_no_two_are_told_alike():
    drawn = draw_canaries(CanarySection(enabled=True), seed=0)
    assert len({canary.told for canary in drawn}) == len({canary.secret for canary in drawn}) == len(drawn) == 300
    other = draw_canaries(CanarySection(enabled=True), seed=1)
    assert not {canary.secret for canary in drawn} & {canary.secret for canary in other}


@pytest.mark.parametrize(
    "settings",
    [
        {"canaries": {"controls_per_tier": 1, "per_tier": 2}},
        {"canaries": {"kinds": ["marker", "marker"]}},
        {"canaries": {"enabled": True}, "languages": ["go"]},
    ],
)
def test_settings_that_measure_nothing_are_errors(settings):
    with pytest.raises(ValueError, match=r"controls_per_tier|kinds|python"):
        PipelineConfig.model_validate(settings)


def test_as_many_as_by_default_are_no_twins_of_one_another(shop, tmp_path):
    build([shop], tmp_path / "out", canaries={"enabled": True}, tasks={"infill": {"enabled": False}})
    found = survivors(tmp_path / "out")
    assert all(found[CanaryKind.MARKER, copies] == (16 * copies,) * 3 for copies in (1, 4, 16))
