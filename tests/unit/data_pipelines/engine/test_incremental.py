"""Builds after builds: what changed is done anew, and the bytes are those of a build that knew nothing."""

import shutil

import pytest

from data_pipelines.engine import reader
from data_pipelines.engine.store import Store
from data_pipelines.engine.work import work_of
from data_pipelines.executors import run as executors
from data_pipelines.split.sticky import SPLIT_NAME
from finetune.contracts.dataset import Task
from tests.unit.data_pipelines.building import build, bytes_of, data_folder, dropped_of, rows_of

GRACE = ("Grace Hopper", "grace@navy.internal")


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    """Several tasks and parts of each repository, small as it is."""
    monkeypatch.setattr("data_pipelines.engine.reading.TASK_BYTES", 4_000)
    monkeypatch.setattr("data_pipelines.engine.writing.PART_BYTES", 4_000)
    monkeypatch.setattr("data_pipelines.engine.writing.PACK_BYTES", 8_000)


@pytest.fixture
def read(monkeypatch):
    """What workers read from its beginning: paths of files, and commits."""
    seen = []

    def watch(name, field):
        plain = getattr(reader.Reader, name)

        def spy(self, item):
            seen.append(getattr(item, field))
            return plain(self, item)

        monkeypatch.setattr(reader.Reader, name, spy)

    watch("_file", "path")
    watch("_edit", "commit")
    return seen


@pytest.fixture
def tasks_run(monkeypatch):
    """Stages whose tasks were run."""
    plain, seen = executors.run_task, []

    def spy(stage, number):
        seen.append(stage.function)
        return plain(stage, number)

    monkeypatch.setattr(executors, "run_task", spy)
    return seen


@pytest.fixture
def filled(make_repository, shop):
    """A repository with enough files for a split; more may be committed."""
    builder = make_repository()
    for path in sorted((shop / "shop").glob("*.py")):
        builder.commit({f"shop/{path.name}": path.read_text()}, "Add one more module to the shop")
        if path.stem in ("bridge", "canal"):
            text = path.read_text().replace("= 0\n", "= 4\n", 1)
            builder.commit({f"shop/{path.name}": text}, f"Start the first total of the {path.stem} at four")
    return builder


def fresh(paths, earlier, out, **settings):
    """A build that knows nothing but what an earlier one decided."""
    if earlier is not None:
        shutil.copytree(earlier, out)
    build(paths, out, **settings)
    return bytes_of(out)


def text_of(shop, topic="apple", name="quince"):
    return (shop / "shop" / f"{topic}.py").read_text().replace(topic, name)


def test_an_unchanged_source_touches_nothing_and_runs_no_worker(filled, tmp_path, tasks_run):
    out = tmp_path / "out"
    manifest = build([filled.path], out)
    assert {name.partition(":")[2] for name in tasks_run} == {"survey_task", "read_task", "write_task"}
    before = {path: path.stat().st_mtime_ns for path in [out, *out.iterdir()]}
    del tasks_run[:]
    assert build([filled.path], out) == manifest
    assert tasks_run == []
    assert {path: path.stat().st_mtime_ns for path in [out, *out.iterdir()]} == before


@pytest.mark.parametrize("name", ["train-00000.parquet", "report.html", "manifest.json"])
def test_an_unchanged_source_mends_a_damaged_dataset(name, filled, tmp_path, tasks_run):
    out = tmp_path / "out"
    build([filled.path], out)
    before = bytes_of(out)
    (out / name).unlink() if name == "report.html" else (out / name).write_bytes(b"damaged")
    del tasks_run[:]
    build([filled.path], out)
    assert bytes_of(out) == before
    assert tasks_run == [], "parts and results are still there"


def test_what_a_new_commit_left_alone_is_not_read_again(filled, tmp_path, shop, read):
    out = tmp_path / "out"
    build([filled.path], out)
    assert len(read) > 10
    del read[:]
    changed = (shop / "shop" / "apple.py").read_text().replace("= 0\n", "= 9\n", 1)
    commit = filled.commit({"shop/apple.py": changed, "shop/quince.py": text_of(shop)}, "Add quinces and start at nine")
    build([filled.path], out)
    assert sorted(read) == sorted(["shop/apple.py", "shop/quince.py"])
    del read[:]
    more = filled.commit({"shop/quince.py": text_of(shop).replace("= 0\n", "= 3\n", 1)}, "Start the quinces at three")
    build([filled.path], out)
    assert read == ["shop/quince.py", more]
    assert commit not in read


def test_edits_that_a_new_commit_left_alone_are_not_written_again(filled, tmp_path, shop, tasks_run, monkeypatch):
    monkeypatch.setattr("data_pipelines.engine.writing.EDITS_PER_PART", 1)
    monkeypatch.setattr("data_pipelines.engine.writer.Desk._edits", lambda *_: edits.append(1))
    edits = []
    out = tmp_path / "out"
    build([filled.path], out)
    assert len(edits) == 2
    files = {f"shop/{name}.py": text_of(shop, name=name) for name in ("quince", "medlar")}
    # more files, and files that change together: all that is made of files is written again
    filled.commit(files, "Add two fruits to the shop")
    del tasks_run[:]
    build([filled.path], out)
    assert len(edits) == 2
    assert any(name.endswith(":write_task") for name in tasks_run)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_build_after_new_commits_is_the_build_that_knew_nothing(workers, filled, tmp_path, shop):
    out = tmp_path / "out"
    build([filled.path], out, workers=workers)
    for number in range(2):
        shutil.copytree(out, tmp_path / f"earlier-{number}")
        name = f"quince{number}"
        filled.commit({f"shop/{name}.py": text_of(shop, name=name)}, f"Add the {name} to the shop")
        changed = text_of(shop, name=name).replace("= 0\n", "= 3\n", 1)
        filled.commit({f"shop/{name}.py": changed}, f"Start the {name} at three", author=GRACE)
        if number == 1:
            filled.git("rm", "-q", "shop/canal.py")
            filled.commit({"shop/bridge.py": "# By Grace Hopper\n" + text_of(shop, "bridge", "tunnel")}, "Dig instead")
        build([filled.path], out, workers=workers)
        assert bytes_of(out) == fresh([filled.path], tmp_path / f"earlier-{number}", tmp_path / f"fresh-{number}")


def test_another_setting_and_back_again_is_the_build_that_knew_nothing(filled, tmp_path):
    out = tmp_path / "out"
    build([filled.path], out)
    for number, settings in enumerate(({"seed": 3}, {"tasks": {"infill": {"bytes_per_row": 300}}}, {})):
        shutil.copytree(out, tmp_path / f"earlier-{number}")
        build([filled.path], out, **settings)
        expected = fresh([filled.path], tmp_path / f"earlier-{number}", tmp_path / f"fresh-{number}", **settings)
        assert bytes_of(out) == expected


def test_one_worker_and_two_give_the_same_bytes(filled, tmp_path):
    for workers in (1, 2):
        build([filled.path], tmp_path / str(workers), workers=workers)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


@pytest.fixture
def newcomer(monkeypatch):
    """An author of one commit: in a history as short as that of these tests it would be a twelfth of all."""
    monkeypatch.setattr("data_pipelines.filters.survey.MIN_AUTHOR_SHARE", 0.5)
    return GRACE


def test_a_new_author_who_stands_nowhere_lets_nothing_be_read_again(filled, tmp_path, read, newcomer):
    out = tmp_path / "out"
    build([filled.path], out)
    shutil.copytree(out, tmp_path / "fresh")
    del read[:]
    filled.commit({}, "Nothing at all", author=newcomer)
    build([filled.path], out)
    assert read == []
    assert bytes_of(out) == fresh([filled.path], None, tmp_path / "fresh")


def test_a_new_author_whose_name_stands_in_a_file_changes_that_file_alone(filled, tmp_path, shop, read, newcomer):
    text = "# Ask Grace Hopper about the price\n" + text_of(shop)
    filled.commit({"shop/quince.py": text}, "Add the quinces to the shop")
    out = tmp_path / "out"
    build([filled.path], out)
    assert "Grace Hopper" in shown(out)
    before = {row.id: row for row in rows_of(out)}
    shutil.copytree(out, tmp_path / "fresh")
    del read[:]
    filled.commit({}, "Nothing at all", author=newcomer)
    build([filled.path], out)
    assert read == ["shop/quince.py"]
    assert "Grace Hopper" not in shown(out)
    assert "REDACTED_NAME_" in shown(out)
    after = {row.id: row for row in rows_of(out)}
    other = {name for name, row in after.items() if "shop/quince.py" not in paths_of(row)}
    assert {name for name, row in before.items() if "shop/quince.py" not in paths_of(row)} == other
    assert all(after[name] == before[name] for name in other)
    assert bytes_of(out) == fresh([filled.path], None, tmp_path / "fresh")


def paths_of(row):
    return {place.path for place in row.provenance}


def shown(out):
    return "\n".join(segment.text for row in rows_of(out) for segment in row.segments)


def texts_of(out):
    """Every text in the store of a dataset."""
    with Store(work_of(data_folder(out), out).store, read_only=True) as store:
        digests = [digest for (digest,) in store._base.execute("SELECT digest FROM text")]
        return [store.text(digest) for digest in digests]


@pytest.mark.parametrize("how", ["deleted", "pushed over"])
def test_content_that_is_gone_leaves_the_dataset_and_the_store(how, filled, tmp_path, shop):
    filled.commit({"shop/secret.py": text_of(shop, name="vault")}, "Add the vault to the shop")
    out = tmp_path / "out"
    build([filled.path], out)
    assert "vault" in shown(out)
    assert any(b"vault" in text for text in texts_of(out))
    if how == "deleted":
        filled.git("rm", "-q", "shop/secret.py")
    else:
        filled.git("reset", "-q", "--hard", "HEAD~1")
    filled.commit({"shop/quince.py": text_of(shop)}, "Add the quinces instead of it")
    build([filled.path], out)
    assert "quince" in shown(out)
    assert "vault" not in shown(out)
    assert b"vault" not in b"".join((out / name).read_bytes() for name in ("manifest.json", "report.html"))
    assert texts_of(out)
    assert not any(b"vault" in text for text in texts_of(out))
    assert "shop/secret.py" not in {row["path"] for row in dropped_of(out)}


def test_what_a_source_held_stays_in_the_store_while_it_cannot_be_read(filled, shop, tmp_path, read):
    out = tmp_path / "out"
    build([filled.path, shop], out)
    filled.path.rename(tmp_path / "away")
    assert build([filled.path, shop], out).sources[0].state == "skipped"
    (tmp_path / "away").rename(filled.path)
    del read[:]
    build([filled.path, shop], out)
    assert read == []


def test_what_an_earlier_build_held_out_is_never_learned(filled, tmp_path, shop):
    """However many commits come after it."""
    out = tmp_path / "out"
    build([filled.path], out)
    held = {path for row in rows_of(out, "heldout") if row.task is Task.PRETRAIN for path in paths_of(row)}
    assert held
    for number in range(6):
        filled.commit({f"shop/q{number}.py": text_of(shop, name=f"q{number}")}, "Add one more of them to it")
    build([filled.path], out)
    assert (out / SPLIT_NAME).is_file()
    train = {path for row in rows_of(out, "train") if row.task is not Task.COMMIT_EDIT for path in paths_of(row)}
    assert train.isdisjoint(held)


def test_parts_that_were_damaged_are_written_again(filled, tmp_path, tasks_run):
    out = tmp_path / "out"
    build([filled.path], out)
    before = bytes_of(out)
    parts = work_of(data_folder(out), out).parts
    damaged = sorted(parts.iterdir())[:2]
    (damaged[0] / "train.parquet").write_bytes(b"damaged")
    (damaged[1] / "part.json").write_text("{")
    (out / "manifest.json").unlink()
    (out / "manifest.json").write_text("{}")
    del tasks_run[:]
    build([filled.path], out)
    assert len(tasks_run) == 2
    assert bytes_of(out) == before
