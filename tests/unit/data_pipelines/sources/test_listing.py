from pathlib import Path

import pytest

from data_pipelines.config import PipelineConfig, SourceSection, load_pipeline
from data_pipelines.sources import listing
from data_pipelines.sources.listing import expand_sources
from finetune.contracts.errors import RepositoryError


def names(*sections):
    return [source.name for source in expand_sources(sections)]


@pytest.fixture
def mirrors(make_repository, tmp_path):
    """Bare repositories directly and nested, a clone, one inside a clone, and a link that leads up again."""
    for name in ("api.git", "group/shop.git", "group/deep/tools.git"):
        make_repository(f"mirrors/{name}", bare=True)
    make_repository("mirrors/clone")
    make_repository("mirrors/clone/inner")
    (tmp_path / "mirrors/group/loop").symlink_to(tmp_path / "mirrors")
    (tmp_path / "mirrors/empty/folder").mkdir(parents=True)
    return tmp_path / "mirrors"


def test_a_folder_of_mirrors_is_every_repository_in_it(mirrors):
    section = SourceSection(mirrors=mirrors, visibility="ops", weight=2, ref="main", exclude=("docs",))
    expanded = expand_sources([section])
    assert [source.name for source in expanded] == ["api", "clone", "group/deep/tools", "group/shop"]
    assert {(source.visibility, source.weight, source.ref, source.mirrors) for source in expanded} == {
        ("ops", 2.0, "main", None)
    }
    assert expanded[0].path == mirrors / "api.git"
    assert expand_sources(expanded) == expanded


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.git", ["api"]),
        ("*/*.git", ["group/shop"]),
        ("**/*.git", ["api", "group/deep/tools", "group/shop"]),
        ("group/**", ["deep/tools", "shop"]),
        ("**/deep/*", ["group/deep/tools"]),
        ("clone/*", ["inner"]),
        ("*", ["api", "clone"]),
    ],
)
def test_globs(glob, expected, mirrors):
    assert names(SourceSection(path=mirrors / glob)) == expected


def test_a_path_that_is_a_plain_folder_stands_for_what_it_holds(mirrors):
    """What --repo gives."""
    config = PipelineConfig().with_repositories([mirrors / "group", mirrors / "api.git"])
    assert [source.name for source in config.named_sources()] == ["deep/tools", "shop", "api"]


def test_a_path_that_leads_nowhere_is_left_to_be_refused(mirrors):
    for path in (mirrors / "empty", mirrors / "missing"):
        assert [source.path for source in expand_sources([SourceSection(path=path)])] == [path]


def test_a_section_of_its_own_wins_over_globs(mirrors):
    secret = SourceSection(path=mirrors / "group/shop.git", visibility="board")
    expanded = expand_sources([SourceSection(mirrors=mirrors), SourceSection(path=mirrors / "*.git"), secret])
    assert [(source.name, source.visibility) for source in expanded] == [
        ("api", "internal"),
        ("clone", "internal"),
        ("group/deep/tools", "internal"),
        ("shop", "board"),
    ]


def test_names_are_made_unique(mirrors):
    alone = SourceSection(path=mirrors / "api.git", name="api-2")
    assert names(alone, SourceSection(path=Path("/a/api")), SourceSection(path=Path("/b/api.git"))) == [
        "api-2",
        "api",
        "api-3",
    ]
    assert names(SourceSection(path=mirrors / "*.git", name="team")) == ["team/api"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"path": "no-such-*"}, "No repository matches .*no-such-\\*"),
        ({"path": "empty/*"}, "No repository matches .*empty/\\*"),
        ({"path": "missing/*"}, "missing cannot be read"),
        ({"mirrors": "empty"}, "empty holds no repository"),
        ({"mirrors": "missing"}, "missing does not exist"),
    ],
)
def test_what_matches_nothing_is_named(section, message, mirrors):
    ((key, value),) = section.items()
    with pytest.raises(RepositoryError, match=message) as caught:
        expand_sources([SourceSection(**{key: mirrors / value})])
    assert caught.value.hint


def test_the_walk_is_bounded(mirrors, monkeypatch):
    monkeypatch.setattr(listing, "MAX_FOLDERS", 3)
    with pytest.raises(RepositoryError, match="more than 3 folders"):
        expand_sources([SourceSection(mirrors=mirrors)])


def test_a_damaged_mirror_is_listed_and_not_passed_over(mirrors):
    (mirrors / "api.git/HEAD").unlink()
    assert "api" in names(SourceSection(mirrors=mirrors))


def test_a_pipeline_file_lists_them_with_its_rules(mirrors):
    path = mirrors / "p.yaml"
    path.write_text(
        "filters:\n  max_bytes: 5000\n  thresholds:\n    sql: {max_lines: 100}\n"
        "sources:\n  - mirrors: group\n  - path: '*.git'\n    weight: 0.5\n    include: ['src/**']\n"
        "    filters:\n      min_bytes: 2\n      thresholds:\n        sql: {max_bytes: 9000}\n"
    )
    config = load_pipeline(path)
    sources = config.named_sources()
    assert [source.name for source in sources] == ["deep/tools", "shop", "api"]
    assert config.filters_of(sources[0]) == config.filters
    own = config.filters_of(sources[2])
    assert (own.min_bytes, own.max_bytes) == (2, 5000)
    assert (own.thresholds["sql"].max_lines, own.thresholds["sql"].max_bytes) == (100, 9000)
