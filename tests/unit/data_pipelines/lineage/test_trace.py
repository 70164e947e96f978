import json

import pytest

from data_pipelines.config import PipelineConfig
from data_pipelines.lineage.lineage import author_of, find_key
from data_pipelines.lineage.trace import Filter, find_example, take_stock, trace
from finetune.cli.data import app
from finetune.cli.errors import run_guarded
from finetune.contracts.dataset import Task
from finetune.contracts.errors import DatasetError, InputError, UsageError
from finetune.contracts.run import Home
from tests.unit.data_pipelines.building import build_from, rows_of
from tests.unit.data_pipelines.conftest import save_shop

GRACE = ("Grace Hopper", "grace@corp.io")
NOTES = "key: value\n" * 20


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("trace") / "home")


@pytest.fixture(scope="module")
def dataset(home, tmp_path_factory):
    """The shop, with one module that somebody else wrote, and a file that is no code."""
    builder = save_shop(tmp_path_factory.mktemp("two") / "shop")
    text = (builder.path / "shop" / "canal.py").read_text().replace("total_canal_0 = 0", "total_canal_0 = 100")
    builder.commit({"shop/canal.py": text, "shop/[odd].yaml": NOTES}, "Start the canal at a hundred", author=GRACE)
    out = home.datasets / "shop"
    build_from(
        PipelineConfig.model_validate({"sources": [{"path": builder.path}], "run": {"workers": 1}}), out, data=home.data
    )
    return out


@pytest.fixture(scope="module")
def rows(dataset):
    return rows_of(dataset)


def run(*arguments):
    words = [str(word) for word in arguments]
    return run_guarded(
        lambda: app(args=words, prog_name="finetune data", standalone_mode=False),
        debug=False,
        as_json="--json" in words,
    )


def learns_from(row, path):
    if row.task is Task.COMMIT_EDIT:
        return True
    return any(segment.loss and segment.path == path for segment in row.segments)


def test_each_row_is_found_by_each_of_its_files_as_target_or_as_context(dataset, rows):
    files = {place.path for row in rows for place in row.provenance}
    assert len(files) == 10
    seen_as_context = 0
    for path in files:
        expected = [row for row in rows if path in {place.path for place in row.provenance}]
        found = trace(dataset, Filter(path=path), limit=1000)
        assert [row.id for row in found.rows] == [row.id for row in expected]
        assert found.as_target == sum(learns_from(row, path) for row in expected)
        assert found.as_context == len(expected) - found.as_target
        assert found.by_kind.total() == len(expected)
        seen_as_context += found.as_context
        for row in found.rows:
            assert {place.path for place in row.places} == {path}
    assert seen_as_context > 0


def test_filters_are_globs_names_and_beginnings_and_all_must_hold(dataset, rows):
    assert trace(dataset, Filter(path="shop"), limit=1).by_kind.total() == len(rows)
    assert trace(dataset, Filter(repo="shop"), limit=1).by_kind.total() == len(rows)
    assert trace(dataset, Filter(repo="sho"), limit=1).by_kind.total() == 0
    place = next(row.provenance[0] for row in rows if row.provenance[0].path == "shop/canal.py")
    by_commit = trace(dataset, Filter(commit=place.commit[:9]), limit=1000)
    assert {row.id for row in by_commit.rows} == {
        row.id for row in rows if place.commit in {other.commit for other in row.provenance}
    }
    assert trace(dataset, Filter(commit=place.commit, path="apple.py"), limit=1).by_kind.total() == 0


def test_what_was_left_out_is_told_by_reason_and_brackets_need_no_backslash(dataset):
    found = trace(dataset, Filter(path="shop/[odd].yaml"), limit=5)
    assert (found.rows, found.as_target, found.as_context) == ([], 0, 0)
    assert [(row.stage, row.count) for row in found.left_out] == [("language", 1)]
    # no line of dropped.parquet tells its author
    assert trace(dataset, Filter(path="shop/[odd].yaml", author="0" * 16), limit=5).left_out == ()


def test_an_author_is_found_by_address_in_any_capitals_and_by_hash(dataset, home, rows):
    key = find_key(home.data, None)
    grace = author_of(dataset, "Grace@Corp.io", key=key)
    assert author_of(dataset, grace, key=None) == grace
    found = trace(dataset, Filter(author=grace), limit=1000)
    expected = {row.id for row in rows if "shop/canal.py" in {place.path for place in row.provenance}}
    assert {row.id for row in found.rows} == expected
    assert grace != author_of(dataset, "ada@corp.io", key=key)


def test_an_address_needs_the_key_of_the_dataset(dataset, home, tmp_path):
    with pytest.raises(InputError, match="no key"):
        author_of(dataset, "ada@corp.io", key=find_key(tmp_path, None))
    assert not any(tmp_path.iterdir())
    other = tmp_path / "key"
    other.write_bytes(b"k" * 32)
    with pytest.raises(DatasetError, match="another key"):
        author_of(dataset, "ada@corp.io", key=find_key(home.data, other))
    with pytest.raises(UsageError, match="no e-mail address"):
        author_of(dataset, "ada", key=find_key(home.data, None))


def test_a_row_tells_its_sources(dataset, rows):
    row = next(row for row in rows if row.task is Task.REPO_INFILL)
    found = find_example(dataset, row.id[:12].upper())
    assert [(place.path, place.first_line, place.blob) for place in found.places] == [
        (place.path, place.first_line, place.blob) for place in row.provenance
    ]
    assert [place.is_target for place in found.places] == [True] + [False] * (len(row.provenance) - 1)
    with pytest.raises(UsageError, match="too short"):
        find_example(dataset, row.id[:3])
    with pytest.raises(DatasetError, match="no row"):
        find_example(dataset, "zzzz")


def test_the_whole_dataset_is_counted(dataset, rows):
    stock = take_stock(dataset, limit=3)
    assert [(named.name, named.rows) for named in stock.repositories] == [("shop", len(rows))]
    assert stock.totals["files"] == 10
    assert stock.totals["authors"] == 2
    assert stock.totals["commits"] == len({place.commit for row in rows for place in row.provenance})
    assert len(stock.files) == len(stock.commits) == 3
    assert [named.rows for named in stock.files] == sorted((named.rows for named in stock.files), reverse=True)


def test_the_command_gives_one_document_or_a_page(dataset, home, rows, capsys):
    assert run("trace", dataset, "--path", "canal.py", "--home", home.root, "--limit", 2, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (len(document["rows"]), document["trained"]) == (2, [])
    assert document["as_target"] + document["as_context"] == sum(row["rows"] for row in document["counts"])
    assert {place["role"] for row in document["rows"] for place in row["places"]} <= {"target", "context"}
    assert run("trace", dataset, "--author", "grace@corp.io", "--home", home.root, "--limit", 3) == 0
    shown = capsys.readouterr().out
    assert "learn from it" in shown
    assert "more rows" in shown
    assert run("trace", dataset, "--example", rows[0].id[:12], "--home", home.root) == 0
    assert rows[0].provenance[0].path in capsys.readouterr().out
    assert run("trace", dataset, "--home", home.root, "--limit", 2) == 0
    assert "10 files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("trace", "{data}", "--example", "abcd", "--repo", "shop"), 2, "names one row"),
        (("trace", "{data}", "--author", "ada@corp.io", "--home", "{tmp}"), 3, "has no key"),
        (("trace", "{data}", "--author", "ada"), 2, "no e-mail address"),
        (("trace", "{tmp}"), 3, "manifest.json"),
        (("inspect", "{data}", "--stage", "language"), 2, "--dropped"),
        (("inspect", "{data}", "--dropped", "--task", "infill"), 2, "no task"),
        (("inspect", "{data}", "--dropped", "--stage", "weather"), 2, "left nothing out"),
        (("report", "{tmp}"), 3, "manifest.json"),
    ],
)
def test_bad_input_is_one_message_with_its_exit_code(arguments, code, text, dataset, tmp_path, capsys):
    words = [word.format(data=dataset, tmp=tmp_path) for word in arguments]
    assert run(*words) == code
    shown = capsys.readouterr()
    assert text in shown.err
    assert shown.out == ""
    assert not any(tmp_path.iterdir())


def test_a_damaged_shard_is_named(dataset, tmp_path):
    for path in dataset.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[:200] if path.name == "train-00000.parquet" else content)
    with pytest.raises(DatasetError, match=r"train-00000\.parquet is damaged"):
        take_stock(tmp_path, limit=3)


def test_what_was_left_out_is_shown_and_a_report_is_written_anew(dataset, capsys):
    assert run("inspect", dataset, "--dropped", "--stage", "language", "--path", "*.yaml", "--json") == 0
    assert [row["path"] for row in json.loads(capsys.readouterr().out)["dropped"]] == ["shop/[odd].yaml"]
    report = dataset / "report.html"
    before = report.read_bytes()
    report.unlink()
    assert run("report", dataset) == 0
    assert str(report) in capsys.readouterr().out
    assert report.read_bytes() == before


@pytest.mark.parametrize("command", ["trace", "forget", "report"])
def test_help_ends_with_two_examples(command, capsys):
    assert run(command, "--help") == 0
    assert capsys.readouterr().out.strip().rpartition("Examples:")[2].count("finetune data") == 2
