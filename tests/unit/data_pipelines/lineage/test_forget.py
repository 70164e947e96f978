import json
import os
import shutil
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipelines.config import PipelineConfig
from data_pipelines.engine.store import Result, Store, key_of, text_digest
from data_pipelines.engine.work import locked, work_of
from data_pipelines.lineage import rewrite
from data_pipelines.lineage.forgetting import Forgotten, read_forgotten
from data_pipelines.lineage.lineage import author_of, find_key
from data_pipelines.lineage.removal import forget, plan_removal, subject_of
from data_pipelines.lineage.trace import Filter, trace
from data_pipelines.questions.answers import FileAnswers
from data_pipelines.sinks.target import is_whole, read_manifest
from finetune.cli.data import app
from finetune.cli.errors import run_guarded
from finetune.contracts.errors import DatasetError, MachineError, UsageError
from finetune.contracts.io import digest_text
from finetune.contracts.run import Home
from tests.unit.data_pipelines.building import build_from, bytes_of, rows_of
from tests.unit.data_pipelines.conftest import DAY, TOPICS, RepositoryBuilder, module_text, save_shop
from tests.unit.data_pipelines.lineage.test_lineage import save_adapter, save_run

GRACE = ("Grace Hopper", "grace@corp.io")
MARKER, OLD_MARKER = "zanzibar_ledger", "zeppelin_ledger"
OTHER_TOPICS = ("kernel", "lantern", "meadow", "needle", "orchard", "pepper", "quarry", "ribbon", "saddle", "timber")


def run(*arguments):
    words = [str(word) for word in arguments]
    return run_guarded(
        lambda: app(args=words, prog_name="finetune data", standalone_mode=False),
        debug=False,
        as_json="--json" in words,
    )


def build(paths, out, home):
    config = PipelineConfig.model_validate({"sources": [{"path": path} for path in paths], "run": {"workers": 1}})
    return build_from(config, out, data=home.data)


def carry_out(out, home, **what):
    key = find_key(home.data, None)
    if "author" in what:
        what["author"] = author_of(out, what["author"], key=key)
    removal = plan_removal(out, subject_of(out, **what), home=home, key=key)
    return removal, *forget(removal, home=home, key=key)


def save_kiosk(path):
    """Other modules than the shop's, committed at the same times: the cut in time is that of the shop alone."""
    builder = RepositoryBuilder(path)
    for topic, of_shop in zip(OTHER_TOPICS, TOPICS, strict=True):
        builder.commit({f"kiosk/{topic}.py": module_text(topic)}, f"Add the {topic} module to the kiosk")
        if of_shop in ("bridge", "jungle"):
            text = module_text(topic).replace(f"total_{topic}_1 =", f"total_{topic}_1 = 1 +")
            builder.commit({f"kiosk/{topic}.py": text}, f"Start the {topic} total at one in the kiosk")
    return builder


def plant(builder, marker):
    """A module that others may be shown, a twin of a part of it, and an edit."""
    text = module_text("forest").replace("total_forest", f"total_{marker}")
    builder.commit({"shop/plan.py": text}, f"Count in the plan {marker[:3]}")
    builder.commit({"shop/plan.py": text.replace("= 2\n", "= 20\n")}, f"Start the plan higher {marker[:3]}")
    builder.commit({"shop/plan.py": text.replace("= 2\n", "= 200\n")}, f"Start the plan higher still {marker[:3]}")


def readable(folder):
    """Everything in a folder in one text, nothing compressed."""
    parts = []
    for path in sorted(folder.rglob("*")):
        parts.append(str(path.relative_to(folder)))
        if path.suffix == ".parquet":
            parts += [str(row) for row in pq.read_table(path).to_pylist()]
        elif path.suffix == ".db":
            parts += map(str, database(path))
        elif path.is_file():
            parts.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(parts)


def database(path):
    base = sqlite3.connect(path)
    for length, value in base.execute("SELECT length, value FROM text"):
        yield pa.Codec("zstd").decompress(value, decompressed_size=length, asbytes=True) if length else b""
    for table in ("result", "still", "similarity"):
        yield from base.execute(f"SELECT * FROM {table}")
    base.close()


def holds(text):
    return MARKER.encode() in text or OLD_MARKER.encode() in text


def texts_of(store):
    return {row for row in database(store) if isinstance(row, bytes)}


def compressed_texts(store, marker):
    base = sqlite3.connect(store)
    texts = [
        value
        for length, value in base.execute("SELECT length, value FROM text WHERE length > 0")
        if marker.encode() in pa.Codec("zstd").decompress(value, decompressed_size=length, asbytes=True)
    ]
    base.close()
    return texts


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A home with a dataset of two repositories; copies of the dataset are changed, never itself."""
    folder = tmp_path_factory.mktemp("forget")
    home, out = Home(folder / "home"), folder / "home" / "datasets" / "both"
    save_shop(folder / "shop")
    save_kiosk(folder / "kiosk")
    build([folder / "shop", folder / "kiosk"], out, home)
    return folder, home, out


@pytest.fixture
def copied(base, tmp_path):
    """A copy of the dataset, and an empty home."""
    shutil.copytree(base[2], tmp_path / "both")
    return tmp_path / "both", Home(tmp_path / "home")


def test_nothing_of_a_path_is_left_in_dataset_and_work_folder_nor_comes_back(tmp_path):
    home, out = Home(tmp_path / "home"), tmp_path / "out"
    builder = save_shop(tmp_path / "shop")
    plant(builder, OLD_MARKER)
    build([builder.path], out, home)
    plant(builder, MARKER)
    build([builder.path], out, home)
    store = work_of(home.data, out).store
    assert compressed_texts(store, OLD_MARKER), "texts of files that are gone stay in the store"
    texts = compressed_texts(store, MARKER)
    assert len(texts) >= 3
    assert MARKER in readable(out)
    others = {text for text in texts_of(store) if not holds(text)}
    FileAnswers(work_of(home.data, out).answers).put("aa", f"What {MARKER} does")

    removal, made, pruned = carry_out(out, home, path="shop:shop/plan.py")
    assert removal.num_rows > 5
    assert {task for task, _ in removal.by_kind} >= {"infill", "pretrain", "commit_edit"}
    assert pruned.texts >= len(texts)
    assert texts_of(store) == others, "what else the store holds stays"
    raw = store.read_bytes()
    assert not any(text in raw for text in texts), "deleted pages are overwritten"
    for marker in (MARKER, OLD_MARKER):
        assert marker not in readable(out)
        assert marker not in readable(home.root)
    assert is_whole(out, made)
    assert made == read_manifest(out)

    again = build([builder.path], out, home)
    # the file and five of its commits; the one that brought it gives no row anyway
    assert [(row.reason, row.count) for row in again.dropped if row.stage == "forgotten"] == [
        ("its path was forgotten", 6)
    ]
    for marker in (MARKER, OLD_MARKER, "plan.py"):
        assert marker not in readable(out).replace("shop:shop/plan.py", "")
    for marker in (MARKER, OLD_MARKER):
        assert marker not in readable(home.root)


def test_what_does_not_stay_is_overwritten(tmp_path):
    texts = [bytes([letter]) * 40 + os.urandom(3000) for letter in b"abc"]
    keys = [key_of("result", number) for number in range(3)]
    with Store(tmp_path / "store.db") as store:
        # some builds of SQLite do it anyway
        store._base.execute("PRAGMA secure_delete = OFF")
        for key, text in zip(keys, texts, strict=True):
            store.add(Result(key, b"", b"head of " + text[:1000]), [text])
        assert store.retain([keys[1]]) == (2, 2)
        assert store.text(text_digest(texts[1])) == texts[1]
        assert list(store.heads(keys)) == [keys[1]]
    raw = (tmp_path / "store.db").read_bytes()
    assert [text[200:300] in raw for text in texts] == [False, True, False]


def test_runs_and_adapters_that_saw_it_are_listed_with_what_to_type(base, tmp_path, capsys):
    folder, _, _ = base
    home, out = Home(tmp_path / "home"), tmp_path / "my data"
    digest = build([folder / "shop", folder / "kiosk"], out, home).content_digest
    save_run(home, "run-1", digest=digest, dataset=out)
    save_adapter(home.adapters / "ours-1", "ours-1", digest=digest, run="run-1")
    arguments = ("forget", out, "--path", "shop:shop/canal.py", "--home", home.root, "--yes", "--json")
    assert run(*arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(item["name"], item["certainty"]) for item in document["trained"]] == [
        ("run-1", "saw it"),
        ("ours-1", "saw it"),
    ]
    shown = "\n".join(document["next"])
    assert f"finetune data build PIPELINE.yaml --out '{out}' --home {home.root}" in shown
    assert f"finetune train RECIPE --set 'data.dataset={out}' --home {home.root}" in shown
    assert f"rm -r {home.adapters / 'ours-1'}" in shown
    assert document["store"]["texts"] > 0
    # what was trained on a state that is gone is still known
    assert read_forgotten(out).digests == (digest,)
    shutil.rmtree(home.runs)
    now = build([folder / "shop", folder / "kiosk"], out, home)
    save_run(home, "run-2", digest=now.content_digest, dataset=out)
    assert run("trace", out, "--home", home.root, "--json") == 0
    found = json.loads(capsys.readouterr().out)["trained"]
    assert {item["name"]: item["certainty"] for item in found} == {"run-2": "saw it", "ours-1": "may have seen it"}
    assert run(*arguments) == 0
    found = json.loads(capsys.readouterr().out)["trained"]
    assert {item["name"] for item in found} == {"ours-1"}, "what was trained on the clean state did not see it"


def test_the_figures_are_those_of_the_rows_that_stay(copied):
    out, home = copied
    before = rows_of(out)
    _, made, _ = carry_out(out, home, path="shop:shop/canal.py")
    after = rows_of(out)
    gone = {row.id for row in before if "shop/canal.py" in {place.path for place in row.provenance}}
    assert {row.id for row in before} - {row.id for row in after} == gone
    assert [row for row in before if row.id not in gone] == after
    counted = {(row.task, row.split, row.language): (row.examples, row.loss_bytes) for row in made.counts}
    for (task, split, language), (examples, learned) in counted.items():
        rows = [row for row in after if (row.task, row.split, row.language) == (task, split, language)]
        assert examples == len(rows)
        assert learned == sum(len(part.text.encode()) for row in rows for part in row.segments if part.loss)
    assert made.num_examples() == len(after)
    slices = [row.slice for row in after]
    assert (made.split.novel, made.split.evolving) == (slices.count("novel"), slices.count("evolving"))
    assert made.split.train_files == read_manifest(out).split.train_files
    assert made.content_digest == digest_text("\n".join(shard.sha256 for shard in made.shards))
    assert is_whole(out, made)
    assert ("forgotten", len(gone)) in {(row.stage, row.count) for row in made.dropped}


def test_a_forgotten_repository_gives_what_a_build_without_it_gives(base, tmp_path):
    folder, _, _ = base
    home, out, alone = Home(tmp_path / "home"), tmp_path / "out", tmp_path / "alone"
    build([folder / "shop", folder / "kiosk"], out, home)
    assert "at one in the kiosk" in readable(work_of(home.data, out).folder)
    carry_out(out, home, repo="kiosk")
    assert "at one in the kiosk" not in readable(work_of(home.data, out).folder)
    again = build([folder / "shop", folder / "kiosk"], out, home)
    build([folder / "shop"], alone, home)
    shards = {name: content for name, content in bytes_of(alone).items() if name.startswith(("train", "heldout"))}
    assert {name: bytes_of(out)[name] for name in shards} == shards
    assert bytes_of(out)["dropped.parquet"] == bytes_of(alone)["dropped.parquet"]
    kiosk = again.sources[1]
    assert (kiosk.repo, kiosk.state, kiosk.commit, kiosk.files) == ("kiosk", "skipped", "", 0)
    assert "forgotten" in kiosk.note
    written = os.stat(out / "manifest.json").st_mtime_ns
    assert build([folder / "shop", folder / "kiosk"], out, home) == again
    assert os.stat(out / "manifest.json").st_mtime_ns == written, "nothing changed, so nothing is built"


def test_a_forgotten_author_does_not_come_back_and_stays_in_the_dictionary(tmp_path):
    home, out = Home(tmp_path / "home"), tmp_path / "out"
    builder = save_shop(tmp_path / "shop")
    text = module_text("velvet") + "# asked of Ada Byron\n"
    builder.commit({"shop/velvet.py": text, "shop/velvet.json": "{}\n" * 50}, "Add the velvet module", author=GRACE)
    builder.commit({"shop/walnut.py": module_text("walnut") + "# asked of Grace Hopper\n"}, "Add the walnut module")
    build([builder.path], out, home)
    assert "shop/velvet.json" in readable(out)
    removal, _, _ = carry_out(out, home, author="GRACE@corp.io")
    grace = removal.subject.authors[0]
    assert removal.num_rows > 0
    for _ in range(2):
        assert "velvet" not in readable(out)
        assert trace(out, Filter(author=grace), limit=1).by_kind.total() == 0
        build([builder.path], out, home)
    assert "Hopper" not in readable(out)
    assert read_forgotten(out).authors == (grace,)


def test_without_yes_nothing_is_changed(base, capsys):
    _, home, out = base
    before = bytes_of(out), readable(home.data)
    assert run("forget", out, "--repo", "kiosk", "--home", home.root) == 0
    shown = capsys.readouterr().out
    assert "Nothing was changed" in shown
    assert f"finetune data build PIPELINE.yaml --out {out}" in shown
    assert run("forget", out, "--path", "shop:shop/canal.py", "--home", home.root, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["done"], document["rows"] > 0) == (False, True)
    assert (bytes_of(out), readable(home.data)) == before


def test_a_dataset_that_would_be_left_without_rows_is_refused(copied, base, capsys):
    out, home = copied
    before = bytes_of(out)
    key = find_key(base[1].data, None)
    everybody = author_of(out, "ada@corp.io", key=key)
    assert run("forget", out, "--author", everybody, "--home", home.root, "--yes") == 3
    assert "would have no rows" in capsys.readouterr().err
    removal = plan_removal(out, Forgotten(authors=(everybody,)), home=home, key=None)
    with pytest.raises(DatasetError, match="would have no rows"):
        forget(removal, home=home, key=None)
    assert bytes_of(out) == before


def test_a_forget_that_is_killed_leaves_the_old_dataset_and_ends_when_typed_again(copied, monkeypatch):
    out, home = copied
    before = bytes_of(out)

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rewrite, "write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            carry_out(out, home, path="shop:shop/canal.py")
    assert bytes_of(out) == before
    carry_out(out, home, path="shop:shop/canal.py")
    first = bytes_of(out)
    removal, _, _ = carry_out(out, home, path="shop:shop/canal.py")
    assert removal.num_rows == 0
    assert {name: first[name] for name in first if name.startswith(("train", "heldout", "forgotten"))} == {
        name: content for name, content in bytes_of(out).items() if name.startswith(("train", "heldout", "forgotten"))
    }


def test_a_dataset_that_was_taken_away_by_one_that_was_killed_is_put_back(copied, capsys):
    out, home = copied
    before = bytes_of(out)
    away = out.parent / f".{out.name}.old.x"
    away.mkdir()
    out.rename(away / "was")
    assert run("forget", out, "--repo", "kiosk", "--home", home.root) == 0
    assert "Nothing was changed" in capsys.readouterr().out
    assert bytes_of(out) == before
    assert not away.exists()


def test_a_build_at_work_or_one_since_keeps_it_away(base, copied):
    _, home, out = base
    removal = plan_removal(out, subject_of(out, repo="kiosk"), home=home, key=None)
    with locked(work_of(home.data, out)), pytest.raises(MachineError, match="at work"):
        forget(removal, home=home, key=None)
    other, empty = copied
    removal = plan_removal(other, subject_of(other, repo="kiosk"), home=empty, key=None)
    carry_out(other, empty, path="shop:shop/canal.py")
    with pytest.raises(DatasetError, match="meanwhile"):
        forget(removal, home=empty, key=None)


def test_other_datasets_and_files_with_the_same_text_are_named(base, tmp_path):
    folder, home, out = base
    renamed = tmp_path / "renamed"
    shutil.copytree(folder / "shop", renamed)
    shutil.copyfile(renamed / "shop" / "canal.py", renamed / "copy.py")
    builder = RepositoryBuilder(renamed)
    builder.now += 5 * DAY
    builder.commit({"copy_two.py": module_text("canal")}, "Copy the canal")
    elsewhere = tmp_path / "elsewhere"
    build([renamed], elsewhere, home)
    removal = plan_removal(out, subject_of(out, path="shop:shop/canal.py"), home=home, key=None)
    assert [(other.folder, other.num_rows > 0) for other in removal.others] == [(elsewhere, True)]
    assert plan_removal(out, subject_of(out, repo="kiosk"), home=home, key=None).others == ()
    inside = plan_removal(elsewhere, subject_of(elsewhere, path="renamed:shop/canal.py"), home=home, key=None)
    assert set(inside.copies) == {"renamed:copy.py", "renamed:copy_two.py"}


def test_exactly_one_thing_of_the_dataset_is_named(base):
    out = base[2]
    with pytest.raises(UsageError, match="Exactly one"):
        subject_of(out)
    with pytest.raises(UsageError, match="Exactly one"):
        subject_of(out, repo="shop", path="shop:a.py")
    with pytest.raises(UsageError, match="No repository") as caught:
        subject_of(out, repo="shp")
    assert "shop" in caught.value.hint
    with pytest.raises(UsageError, match="No repository"):
        subject_of(out, path="shop/canal.py")
    with pytest.raises(UsageError, match="names no files"):
        subject_of(out, path="shop:/")


def test_a_list_matches_as_gitignore_does_and_adds_up():
    listed = Forgotten(paths=("group/api:src/[id].py", "shop:old"))
    assert listed.reason("group/api", ["src/[id].py"], "x")
    assert listed.reason("group/api", ["src/i.py"], "x")
    assert listed.reason("shop", ["a/old/b.py"], "x")
    assert not listed.reason("sho", ["p:old"], "x")
    assert not listed.reason("api", ["src/[id].py"], "x")
    both = listed | Forgotten(authors=("x",), digests=("d",))
    assert both.reason("any", ["a.py"], "x")
    assert both.includes(listed)
    assert not listed.includes(both)
    assert both.digest() == (listed | Forgotten(authors=("x",))).digest() != listed.digest()
    assert not Forgotten(digests=("d",))
