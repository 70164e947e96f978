import pytest

from data_pipelines.config import PipelineConfig
from data_pipelines.engine.survey import ENTRIES_NAME, FACTS_NAME, Survey, survey_key, write_survey
from data_pipelines.filters.context import read_place
from data_pipelines.sources.git import open_repository
from finetune.contracts.errors import DatasetError, RepositoryError
from tests.unit.data_pipelines.building import build, dropped_of, rows_of


@pytest.fixture
def survey_of(tmp_path):
    """survey_of(path) surveys the head of a repository."""

    def make(path, **settings):
        config = PipelineConfig.model_validate({"sources": [{"path": path}], **settings})
        (section,) = config.named_sources()
        with open_repository(path, name="shop") as repository:
            commit = repository.commit
        target = tmp_path / "surveys" / survey_key(config, section, commit).hex()
        write_survey(config, section, commit=commit, target=target)
        return Survey(target)

    return make


def test_what_was_written_is_read_again(make_repository, survey_of):
    builder = make_repository()
    builder.commit({"a.py": "value = 1\n" * 20, "LICENSE": "Permission is hereby granted, free of charge, to any"})
    first = builder.commit(
        {"b.py": "other = 1\n" * 20, "c\udcff.py".encode("utf-8", "surrogateescape").decode("latin-1"): "x"}
    )
    grace = ("Grace Hopper", "grace@navy.internal")
    second = builder.commit({"a.py": "value = 2\n" * 20, "b.py": "other = 2\n" * 20}, "Start both at two", author=grace)
    survey = survey_of(builder.path)
    facts = survey.facts
    assert (facts.commit, facts.num_commits, facts.num_files, facts.note, facts.error) == (second, 3, 4, "", "")
    entries = {entry.path: entry for entry in survey.entries()}
    assert facts.num_bytes == sum(entry.bytes for entry in entries.values())
    entry = entries[b"a.py"]
    assert (entry.bytes, entry.stage, entry.reason, entry.commit, entry.email) == (200, "", "", second, grace[1])
    assert entry.blob == builder.git("rev-parse", "HEAD:a.py")
    assert entry.time == int(builder.git("show", "-s", "--format=%ct"))
    assert read_place(entry.place) is not None
    odd = next(entry for path, entry in entries.items() if path.startswith(b"c"))
    assert odd.reason
    assert odd.place == ""
    (candidate,) = survey.candidates()
    assert (candidate.id, candidate.name, candidate.email) == (second, *grace)
    assert candidate.message.strip() == "Start both at two"
    assert [(change.path, change.status) for change in candidate.changes] == [(b"a.py", "M"), (b"b.py", "M")]
    assert candidate.changes[0].after == entry.blob
    assert list(survey.signatures()) == [(second, entry.time, grace[1])]
    rejected = dict(survey.rejected())
    assert first in rejected
    assert all(rejected.values())
    assert {"grace hopper", "ada byron"} == {name for name, _ in survey.people() if name}
    assert {"grace@navy.internal", "ada@corp.io"} == {email for _, email in survey.people() if email}
    assert survey.co_changes()["a.py"]["b.py"] == 1


def test_equal_repositories_give_equal_bytes(shop, tmp_path):
    config = PipelineConfig.for_repositories([shop])
    (section,) = config.named_sources()
    with open_repository(shop, name="shop") as repository:
        commit = repository.commit
    for name in ("one", "two"):
        write_survey(config, section, commit=commit, target=tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_what_shapes_a_survey_is_in_its_key_and_nothing_else(shop):
    def key(commit="c" * 40, source=None, **settings):
        config = PipelineConfig.model_validate({"sources": [{"path": shop, **(source or {})}], **settings})
        return survey_key(config, config.named_sources()[0], commit)

    same = [key(), key(seed=4), key(source={"weight": 3}), key(source={"visibility": "all"}), key(run={"workers": 7})]
    assert len(set(same)) == 1
    others = [
        key("d" * 40),
        key(languages=["python"]),
        key(filters={"max_bytes": 5_000}),
        key(source={"exclude": ["a"]}),
        key(source={"name": "other"}),
        key(tasks={"commit_edit": {"max_files": 2}}),
    ]
    assert len({key(), *others}) == len(others) + 1


def test_a_damaged_survey_is_named(shop, survey_of):
    survey = survey_of(shop)
    (survey.folder / ENTRIES_NAME).write_bytes(b"PAR1 and no more")
    with pytest.raises(DatasetError, match=ENTRIES_NAME):
        list(survey.entries())
    (survey.folder / FACTS_NAME).write_text("{")
    with pytest.raises(DatasetError, match="is damaged") as caught:
        Survey(survey.folder)
    assert f"Delete {survey.folder}" in caught.value.hint


def damage_history(builder, commit):
    """Take an old commit away: the head and its tree are whole."""
    path = builder.path / ".git/objects" / commit[:2] / commit[2:]
    path.chmod(0o644)
    path.unlink()


def damage_tree(builder):
    """Spoil the top folder of the head."""
    tree = builder.git("rev-parse", "HEAD^{tree}")
    path = builder.path / ".git/objects" / tree[:2] / tree[2:]
    path.chmod(0o644)
    path.write_bytes(b"damaged")


def test_a_history_that_breaks_off_gives_a_note_and_the_rest_is_used(make_repository, tmp_path, shop):
    builder = make_repository()
    commits = [
        builder.commit({path.name: path.read_text()}, "Add one more module here")
        for path in sorted((shop / "shop").glob("*.py"))
    ]
    damage_history(builder, commits[1])
    out = tmp_path / "out"
    manifest = build([builder.path], out)
    (source,) = manifest.sources
    assert source.state == "partial"
    assert "its history cannot be read beyond the newest" in source.note
    assert source.files == 10
    assert rows_of(out)
    again = build([builder.path], out)
    assert again == manifest, "what is partial is looked at again, and gives the same"


def test_a_source_that_cannot_be_read_is_skipped_and_told_of(make_repository, tmp_path, shop):
    broken = make_repository("broken")
    broken.commit({"a.py": "value = 1\n" * 20})
    damage_tree(broken)
    empty = make_repository("empty")
    out = tmp_path / "out"
    manifest = build([broken.path, shop, empty.path, tmp_path / "nowhere"], out)
    states = {source.repo: source.state for source in manifest.sources}
    assert states == {"broken": "skipped", "shop": "whole", "empty": "skipped", "nowhere": "skipped"}
    notes = {source.repo: source.note for source in manifest.sources}
    assert "its file tree cannot be read" in notes["broken"]
    assert "has no commits" in notes["empty"]
    assert "does not exist" in notes["nowhere"]
    assert str(tmp_path) not in manifest.model_dump_json()
    assert {row.provenance[0].repo for row in rows_of(out)} == {"shop"}
    assert {row["repo"] for row in dropped_of(out)} == {"shop"}
    alone = build([shop], tmp_path / "alone")
    assert alone.content_digest == manifest.content_digest


def test_when_no_source_can_be_read_the_error_names_the_first(make_repository, tmp_path):
    with pytest.raises(RepositoryError, match="nowhere does not exist"):
        build([tmp_path / "nowhere", make_repository("empty").path], tmp_path / "out")
    builder = make_repository("broken")
    builder.commit({"a.py": "value = 1\n" * 20})
    damage_tree(builder)
    with pytest.raises(RepositoryError, match="its file tree cannot be read") as caught:
        build([builder.path], tmp_path / "out")
    assert "git fsck" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "settings", [{"filters": {"drop_paths": ["old/"]}}, {"attributes": "old/* linguist-vendored\n"}]
)
def test_a_commit_that_touches_what_is_left_out_is_no_candidate(make_repository, survey_of, settings):
    builder = make_repository()
    attributes = {".gitattributes": settings["attributes"]} if "attributes" in settings else {}
    builder.commit({"old/a.py": "value = 1\n" * 20, "b.py": "other = 1\n" * 20, **attributes})
    left_out = builder.commit({"old/a.py": "value = 2\n" * 20}, "Start the values at two")
    kept = builder.commit({"b.py": "other = 2\n" * 20}, "Start the others at two")
    survey = survey_of(builder.path, **{name: value for name, value in settings.items() if name == "filters"})
    assert [commit.id for commit in survey.candidates()] == [kept]
    reasons = dict(survey.rejected())
    assert reasons[left_out].startswith("touches a file that is left out: ")
