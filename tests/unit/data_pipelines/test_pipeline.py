import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict

import pyarrow.parquet as pq
import pytest

from data_pipelines.dedup.shingles import jaccard, shingles
from data_pipelines.engine.store import STORE_NAME
from data_pipelines.report.write import write_report
from data_pipelines.show import page
from data_pipelines.sources.git import open_repository
from finetune.contracts import io as contract_io
from finetune.contracts.dataset import DatasetManifest, Role, Slice, Split, Task
from finetune.contracts.edit_blocks import Block, apply_blocks, read_blocks
from finetune.contracts.errors import DatasetError, MachineError, RepositoryError, UsageError
from finetune.contracts.io import digest_file, digest_text
from tests.unit.data_pipelines.building import KEY, build, bytes_of, data_folder, dropped_of, rows_of


def text_of(row, role):
    return "".join(segment.text for segment in row.segments if segment.role is role)


@pytest.fixture(scope="module")
def built(shop, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "shop"
    return out, build([shop], out), rows_of(out)


def test_every_task_has_rows_and_the_manifest_tells_the_truth(built):
    out, manifest, rows = built
    assert {row.task for row in rows} == set(Task) - {Task.TESTS, Task.REVIEW_FIX, Task.QA}
    assert manifest == DatasetManifest.model_validate_json((out / "manifest.json").read_bytes())
    for shard in manifest.shards:
        assert digest_file(out / shard.name) == shard.sha256
        assert pq.read_metadata(out / shard.name).num_rows == shard.examples
    assert manifest.content_digest == digest_text("\n".join(shard.sha256 for shard in manifest.shards))
    counted = defaultdict(int)
    for row in rows:
        counted[row.task, row.split] += 1
    assert {(row.task, row.split): row.examples for row in manifest.counts} == counted
    assert manifest.num_examples() == len(rows) == len({row.id for row in rows})
    assert (manifest.sources[0].commits, manifest.sources[0].files) == (12, 10)
    shards = [shard.name for shard in manifest.shards]
    # files, edits and packs of one repository
    assert shards == [f"{split}-0000{number}.parquet" for split in ("heldout", "train") for number in range(3)]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["dropped.parquet", "manifest.json", "report.html", "split.parquet", *shards]
    )


def test_the_report_of_a_build_is_that_of_its_rows(built, tmp_path):
    """A build knows its rows as it writes them; whoever has the dataset alone reads them from the shards."""
    out, manifest, _ = built
    assert manifest.split.leaked
    copy = shutil.copytree(out, tmp_path / "copy")
    (copy / "report.html").unlink()
    assert write_report(copy).read_bytes() == (out / "report.html").read_bytes()


def test_provenance_leads_back_to_the_text(built, shop):
    _, _, rows = built
    with open_repository(shop, name="shop") as repository:
        commits = {commit.id: commit for commit in repository.commits()}
        for row in rows:
            place = row.provenance[0]
            lines = repository.content(place.blob, max_bytes=10**6).decode().split("\n")
            assert 1 <= place.first_line <= place.last_line <= len(lines)
            assert commits[place.commit].time == place.committed_at
            assert place.path.encode() in {change.path for change in commits[place.commit].changes}
            if row.task is Task.INFILL:
                near = "\n".join(lines[place.first_line - 1 : place.last_line]) + "\n"
                assert text_of(row, Role.TARGET) in near


def test_held_out_rows_come_from_after_the_cut_and_train_rows_from_before(built):
    _, manifest, rows = built
    assert manifest.split.method == "time"
    for row in rows:
        late = max(place.committed_at for place in row.provenance) >= manifest.split.cutoff_at
        assert late == (row.split is Split.HELDOUT) or row.split is Split.HELDOUT
        if row.split is Split.TRAIN:
            assert not late
    assert {row.slice for row in rows if row.split is Split.TRAIN} == {None}
    counts = Counter(row.slice for row in rows if row.split is Split.HELDOUT)
    assert counts == {Slice.NOVEL: manifest.split.novel, Slice.EVOLVING: manifest.split.evolving}
    taught = {row.cluster for row in rows if row.split is Split.TRAIN}
    assert taught.isdisjoint(row.cluster for row in rows if row.slice is Slice.NOVEL)


def test_edits_apply_and_their_context_is_the_file_before(built):
    _, _, rows = built
    edits = [row for row in rows if row.task is Task.COMMIT_EDIT]
    assert sorted(row.split for row in edits) == [Split.HELDOUT, Split.TRAIN]
    for row in edits:
        assert [segment.role for segment in row.segments] == [Role.INSTRUCTION, Role.CONTEXT, Role.ANSWER]
        blocks = [block for _, block in read_blocks(text_of(row, Role.ANSWER))]
        after = apply_blocks(text_of(row, Role.CONTEXT), blocks)
        assert after is not None
        assert "= 1 + " in after
        assert text_of(row, Role.INSTRUCTION).startswith("Start the ")
        assert "(#" not in text_of(row, Role.INSTRUCTION)
    assert Block is type(blocks[0])


def test_building_twice_gives_the_same_bytes(built, shop, tmp_path):
    build([shop], tmp_path / "again")
    assert bytes_of(tmp_path / "again") == bytes_of(built[0])


def test_a_clone_elsewhere_gives_the_same_bytes_in_another_process(built, shop, tmp_path):
    subprocess.run(["git", "clone", "-q", "--bare", str(shop), str(tmp_path / "shop.git")], check=True)
    code = (
        "import sys; from pathlib import Path; from data_pipelines.config import PipelineConfig;"
        "from data_pipelines.pipeline import build_dataset; from finetune.terminal.progress import Progress;"
        "document = {'sources': [{'path': sys.argv[1]}], 'redact': {'key_file': sys.argv[3]}, 'run': {'workers': 1}};"
        "build_dataset(PipelineConfig.model_validate(document), Path(sys.argv[2]), data_folder=Path(sys.argv[4]), "
        "progress=Progress('x', None)); assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    (tmp_path / "key").write_bytes(KEY)
    arguments = [sys.executable, "-c", code, *(str(tmp_path / name) for name in ("shop.git", "clone", "key", "data"))]
    subprocess.run(arguments, check=True, env=environment, capture_output=True)
    assert bytes_of(tmp_path / "clone") == bytes_of(built[0])


def test_another_seed_gives_other_rows(built, shop, tmp_path):
    assert build([shop], tmp_path / "seed", seed=1).content_digest != built[1].content_digest


def test_no_secret_and_no_address_reaches_a_file_of_the_dataset(make_repository, tmp_path, shop):
    builder = make_repository()
    secrets = ("AKIA" + "QWERTYUIOPASDFGH", "hunter2-of-ada", "grace@corp.io")
    for number in range(8):
        lines = f'KEY = "{secrets[0]}"\nPASSWORD = "{secrets[1]}"\n__author__ = "{secrets[2]}"\n'
        builder.commit({f"m{number}.py": module_text_like(shop, number) + lines}, "Add one more module here")
    text = (builder.path / "m7.py").read_text().replace("= 0\n", "= 1\n", 1)
    builder.commit({"m7.py": text}, f"Use password='{secrets[1]}' of {secrets[2]} there", author=("Grace", secrets[2]))
    manifest = build([builder.path], tmp_path / "out")
    assert {row.reason for row in manifest.redacted} == {"aws-access-key-id", "password-assignment", "email"}
    assert any(row.redactions for row in rows_of(tmp_path / "out"))
    shown = json.dumps([row.model_dump(mode="json") for row in rows_of(tmp_path / "out")]) + manifest.model_dump_json()
    shown += json.dumps(dropped_of(tmp_path / "out")) + (tmp_path / "out" / "report.html").read_text()
    assert any(row.task is Task.COMMIT_EDIT for row in rows_of(tmp_path / "out"))
    assert [secret for secret in secrets if secret in shown] == []


def module_text_like(shop, number):
    return sorted((shop / "shop").glob("*.py"))[number].read_text()


def test_twins_lie_on_one_side(make_repository, tmp_path, shop):
    """A copy of an old file, committed last, is held out: its twin must not be learned."""
    builder = make_repository()
    for number in range(9):
        builder.commit({f"m{number}.py": module_text_like(shop, number)}, "Add one more module here")
    builder.commit({"copy.py": module_text_like(shop, 0) + "LAST = True\n"}, "Copy the first of the modules")
    manifest = build([builder.path], tmp_path / "out")
    assert manifest.split.purged == 1
    train = {row.provenance[0].path for row in rows_of(tmp_path / "out", "train")}
    held = {row.provenance[0].path for row in rows_of(tmp_path / "out", "heldout")}
    assert "m0.py" not in train | held
    assert "copy.py" in held
    assert_no_leak(rows_of(tmp_path / "out"))


def assert_no_leak(rows):
    whole = {side: [] for side in Split}
    for row in rows:
        if row.task is Task.PRETRAIN:
            whole[row.split] += [shingles(segment.text.encode()) for segment in row.segments]
    assert whole[Split.TRAIN]
    assert whole[Split.HELDOUT]
    for held in whole[Split.HELDOUT]:
        assert max(jaccard(held, seen) for seen in whole[Split.TRAIN]) < 0.7
    clusters = {side: {row.cluster for row in rows if row.split is side} for side in Split}
    assert clusters[Split.TRAIN].isdisjoint(clusters[Split.HELDOUT])


def test_no_leak_in_the_shop(built):
    assert_no_leak(built[2])


def test_equal_files_are_kept_once(make_repository, tmp_path, shop):
    builder = make_repository()
    builder.commit({"copy.py": module_text_like(shop, 0)}, "Add a first module here")
    for number in range(8):
        builder.commit({f"m{number}.py": module_text_like(shop, number)}, "Add one more module here")
    manifest = build([builder.path], tmp_path / "out")
    assert sum(row.count for row in manifest.dropped if row.reason == "equal to a file that was kept") == 1


@pytest.mark.parametrize("kind", ["single", "shallow"])
def test_a_short_history_is_divided_by_cluster(kind, make_repository, tmp_path, shop):
    if kind == "single":
        builder = make_repository()
        builder.commit({f"m{number}.py": module_text_like(shop, number) for number in range(10)}, "All at once")
        path = builder.path
    else:
        path = tmp_path / "shallow"
        subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{shop}", str(path)], check=True)
    manifest = build([path], tmp_path / "out")
    assert manifest.split.method == "cluster"
    assert manifest.split.cutoff_at is None
    assert manifest.split.note
    assert manifest.num_examples(Split.HELDOUT) > 0
    assert_no_leak(rows_of(tmp_path / "out"))


def test_repositories_of_one_name_are_told_apart(make_repository, tmp_path, shop):
    for folder in ("one", "two"):
        builder = make_repository(f"{folder}/api")
        for number in range(5):
            text = module_text_like(shop, number + 5 * (folder == "two"))
            builder.commit({f"m{number}.py": text}, "Add one more module here")
    manifest = build([tmp_path / "one/api", tmp_path / "two/api"], tmp_path / "out")
    assert [source.repo for source in manifest.sources] == ["api", "api-2"]
    assert str(tmp_path) not in manifest.model_dump_json()
    assert {row.provenance[0].repo for row in rows_of(tmp_path / "out")} == {"api", "api-2"}


def test_hostile_entries_are_left_out_with_a_reason(make_repository, tmp_path, shop):
    builder = make_repository()
    for number in range(8):
        builder.commit({f"m{number}.py": module_text_like(shop, number)}, "Add one more module here")
    odd = b"x = 1  # \xff\n" * 10
    builder.commit({"latin.py": odd, "a\x1b[2J.py": "x = 1\n" * 30, "deep.py": "x = " + "(" * 900 + "\n"}, "odd")
    with open(os.fsencode(builder.path) + b"/\xfe.py", "wb") as stream:
        stream.write(b"y = 1\n" * 30)
    (builder.path / "link.py").symlink_to("/etc/passwd")
    builder.commit({"-o.py": module_text_like(shop, 9)}, "more of the odd ones")
    builder.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub.py")
    builder.git("commit", "-q", "-m", "hostile")
    manifest = build([builder.path], tmp_path / "out")
    reasons = {row.reason: row.count for row in manifest.dropped}
    assert reasons["symbolic link"] == reasons["submodule"] == reasons["Latin-1, not UTF-8"] == 1
    assert reasons["path is not printable UTF-8"] == 2
    assert all(row["path"].isprintable() for row in dropped_of(tmp_path / "out"))
    assert "root:" not in json.dumps([row.model_dump(mode="json") for row in rows_of(tmp_path / "out")])


def test_no_source_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="No repository"):
        build([], tmp_path / "out")


def test_a_repository_without_supported_code_says_what_it_holds(make_repository, tmp_path):
    builder = make_repository()
    builder.commit({"a.js": "let a = 1\n" * 20, "README.md": "# Hello\n" * 20})
    with pytest.raises(RepositoryError, match="no file of python passed the filters.*javascript"):
        build([builder.path], tmp_path / "out", languages=["python"])
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []


def test_a_repository_with_too_few_files_says_how_many_are_needed(make_repository, tmp_path):
    builder = make_repository()
    builder.commit({"a.py": "value = 1\n" * 20})
    with pytest.raises(DatasetError, match="gives 1 files that can be used; 5 are the least"):
        build([builder.path], tmp_path / "out")


def test_a_repository_of_copies_has_no_held_out_side(make_repository, tmp_path, shop):
    builder = make_repository()
    builder.commit({f"m{number}.py": module_text_like(shop, 0) for number in range(8)}, "Copies all over")
    with pytest.raises(DatasetError, match="heldout side would have no rows"):
        build([builder.path], tmp_path / "out")


def test_a_failed_build_leaves_the_old_dataset_as_it_was(built, shop, tmp_path, make_repository):
    out = tmp_path / "out"
    build([shop], out)
    before = bytes_of(out)
    builder = make_repository()
    builder.commit({"a.json": "[1, 2]\n" * 20})
    with pytest.raises(RepositoryError):
        build([builder.path], out)
    assert bytes_of(out) == before
    assert list(tmp_path.glob(".out*")) == []


def test_a_new_build_replaces_the_old_dataset(shop, tmp_path):
    out = tmp_path / "out"
    old = build([shop], out)
    new = build([shop], out, seed=3)
    assert new.content_digest != old.content_digest
    assert DatasetManifest.model_validate_json((out / "manifest.json").read_bytes()) == new


@pytest.mark.parametrize("content", ["notes.txt", "train-00000.parquet", "sub/manifest.json"])
def test_a_folder_that_is_something_else_is_refused_and_untouched(content, shop, tmp_path):
    target = tmp_path / "out" / content
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    with pytest.raises(DatasetError, match="no dataset"):
        build([shop], tmp_path / "out")
    assert target.read_text() == "mine"


def test_a_dataset_with_a_foreign_file_is_refused(shop, tmp_path):
    build([shop], tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="notes.txt"):
        build([shop], tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_refused(shop, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DatasetError, match="is a file"):
        build([shop], tmp_path / "out")


@pytest.mark.parametrize("where", ["store", "part", "end"])
def test_a_full_disk_is_one_message_and_nothing_changes(where, shop, tmp_path, monkeypatch):
    out = tmp_path / "out"
    build([shop], out)
    before = bytes_of(out)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "store":
        monkeypatch.setattr("data_pipelines.engine.reader.write_pack", full)
    elif where == "part":
        monkeypatch.setattr("data_pipelines.sinks.rows.ExampleFile.add", full)
    else:
        monkeypatch.setattr(contract_io, "sync_folder", full)
    with pytest.raises(MachineError, match="No space left"):
        build([shop], out, seed=1)
    assert bytes_of(out) == before
    assert list(tmp_path.glob(".out*")) == []
    monkeypatch.undo()
    assert build([shop], out, seed=1).content_digest == build([shop], tmp_path / "other", seed=1).content_digest


def test_what_only_a_build_at_work_needs_is_gone_at_its_end(built):
    """The scratch database, and the inputs of workers: these hold the key, and texts that nothing was taken out of."""
    (work,) = data_folder(built[0]).iterdir()
    journal = f"{STORE_NAME}-journal"
    names = ["dataset", "lock", "packs", "parts", STORE_NAME, journal, "surveys"]
    assert sorted(path.name for path in work.iterdir()) == names
    assert not (work / journal).stat().st_size
    assert list((work / "packs").iterdir()) == []
    assert list(work.rglob(".*")) == []


def test_tasks_and_strata_can_be_switched_off(shop, tmp_path):
    tasks = {
        **{task.value: {"enabled": False} for task in Task if task is not Task.INFILL},
        "infill": {"strata": {"block": 1, "statement": 0, "call": 0, "line": 0, "random": 0}},
    }
    manifest = build([shop], tmp_path / "out", tasks=tasks)
    assert {row.task for row in manifest.counts} == {Task.INFILL}
    assert {row.stratum for row in rows_of(tmp_path / "out")} == {"block"}


def test_context_of_train_rows_never_shows_a_held_out_file(make_repository, tmp_path, shop):
    builder = make_repository()
    for number in range(10):
        text = "".join(f"import m{other}\n" for other in range(10) if other != number)
        builder.commit({f"m{number}.py": text + module_text_like(shop, number)}, "Add one more module here")
    tasks = {"repo_infill": {"bytes_per_row": 100, "max_rows_per_file": 9, "max_context_files": 9}}
    build([builder.path], tmp_path / "out", tasks=tasks)
    held = {row.provenance[0].path for row in rows_of(tmp_path / "out", "heldout")}
    shown = {
        segment.path
        for row in rows_of(tmp_path / "out", "train")
        for segment in row.segments
        if segment.role is Role.CONTEXT
    }
    assert shown
    assert held
    assert shown.isdisjoint(held)


def test_an_old_edit_of_a_held_out_file_is_not_learned_however_much_the_file_changed(make_repository, tmp_path, shop):
    builder = make_repository()
    for number in range(8):
        builder.commit({f"m{number}.py": module_text_like(shop, number)}, "Add one more module here")
    changed = module_text_like(shop, 0).replace("apple_1 = 1", "apple_1 = 7")
    builder.commit({"m0.py": changed}, "Start the total of apples at seven")
    builder.commit({"m1.py": module_text_like(shop, 1) + "\nLAST = 1\n"}, "Name the last of the bridges")
    builder.commit({"m0.py": module_text_like(shop, 9)}, "wip")
    manifest = build([builder.path], tmp_path / "out")
    edits = [row for row in rows_of(tmp_path / "out", "train") if row.task is Task.COMMIT_EDIT]
    assert "m0.py" not in {place.path for row in edits for place in row.provenance}
    assert "edit of a held-out file" in {row.reason for row in manifest.dropped}


def test_a_held_out_function_that_train_teaches_word_for_word_is_left_out(make_repository, tmp_path, shop):
    builder = make_repository()
    shared = module_text_like(shop, 0).split("\n\n\n")[0].split("import math\n\n")[1] + "\n"
    for number in range(9):
        text = module_text_like(shop, number) if number else shared + module_text_like(shop, 9)
        builder.commit({f"m{number}.py": text}, "Add one more module here")
    builder.commit({"last.py": shared + "\n\n" + module_text_like(shop, 0).replace("apple", "plum")}, "Move a function")
    manifest = build([builder.path], tmp_path / "out", tasks={"docstring": {"max_rows_per_file": 9}})
    dropped = {row.reason: row.count for row in manifest.dropped if row.stage == "docstring"}
    assert dropped == {"everything that it asks stands in a row of train": 1}


def test_escape_sequences_of_a_repository_do_not_reach_the_terminal(built):
    row = built[2][0]
    hostile = row.model_copy(update={"segments": (row.segments[0].model_copy(update={"text": "a\x1b[2Jb\rc\u202ed"}),)})
    assert not {"\x1b", "\r", "\u202e"} & set(page([hostile]))
