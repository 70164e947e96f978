"""Whole builds over real repositories with real exports of reviews beside them."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_pipelines.config import PipelineConfig
from data_pipelines.engine import reader, sourcing
from data_pipelines.lineage.dropped import read_dropped
from data_pipelines.lineage.lineage import find_key
from data_pipelines.lineage.removal import forget, plan_removal, subject_of
from data_pipelines.reviews import fix_reader, reviewing
from finetune.contracts.dataset import Role, Slice, Split, Task
from finetune.contracts.edit_blocks import apply_blocks, read_blocks
from finetune.contracts.run import Home
from tests.unit.data_pipelines.building import build_from, bytes_of, rows_of
from tests.unit.data_pipelines.conftest import DAY, START, TOPICS, module_text

ASK = "This starts too low for what we weigh, please begin with ten."
REVIEWER = ("Grace Hopper", "grace@corp.io")
# put together here, so that nothing in this file is a key
SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


def fixed_text(topic, first=10):
    """The module of a topic whose first total starts with another number than 0."""
    return module_text(topic).replace(f"total_{topic}_0 = 0", f"total_{topic}_0 = {first}")


@dataclass
class Team:
    """A repository, and the requests that were reviewed in it."""

    builder: object
    exports: object
    requests: list

    def add(self, topic):
        self.builder.commit({f"shop/{topic}.py": module_text(topic)}, f"Add the {topic} module to the shop")

    def review(self, topic, ask=ASK, *, folder="shop", author=None, squash=False):
        """Add a module on a branch, comment on its first total, fix it there, merge."""
        builder, exports, number = self.builder, self.exports, 7 + len(self.requests)
        path = f"{folder}/{topic}.py"
        options = {"author": author} if author else {}
        builder.git("checkout", "-q", "-b", f"feature-{number}")
        added = builder.commit({path: module_text(topic)}, f"Add the {topic} module to the shop", **options)
        asked_at = builder.now - DAY + 100
        fixed = builder.commit({path: fixed_text(topic)}, f"Start the {topic} total at ten", **options)
        line = module_text(topic).split("\n").index(f"    total_{topic}_0 = 0") + 1
        hunk = exports.hunk_to(builder.git("diff", "main", added, "--", path), line)
        builder.git("checkout", "-q", "main")
        builder.git("merge", "-q", *(["--squash"] if squash else ["--no-ff"]), f"feature-{number}")
        if squash:
            builder.git("commit", "-q", "-m", f"Add {topic} (#{number})")
        merged = builder.git("rev-parse", "HEAD")
        thread = exports.Thread(path, line, added, hunk, [exports.Said("mira", ask, asked_at)], resolved=True)
        self.requests.append(exports.Request(number, topic, [added, fixed], merged, builder.now, [thread]))
        builder.now += DAY
        return fixed

    def export(self, name="gitlab-tree"):
        folder = self.builder.path.parent / "export"
        if not folder.exists():
            folder.mkdir()
            self.exports.WRITERS[name](folder / "reviews", self.requests)
        return folder / "reviews"


@pytest.fixture
def team(make_repository, forge_exports):
    """Ten modules and two reviews: of one after the third module, and of one that came last."""
    made = Team(make_repository("shop"), forge_exports, [])
    for topic in TOPICS[:3]:
        made.add(topic)
    made.review("kettle")
    for topic in TOPICS[3:]:
        made.add(topic)
    made.review("lantern")
    return made


@pytest.fixture
def key(tmp_path):
    """A key that several homes share."""
    path = tmp_path / "key"
    path.write_bytes(b"k" * 32)
    return path


def config_of(team, *, reviews=True, **settings):
    source = {"path": team.builder.path, "name": "shop"}
    if reviews:
        source["reviews"] = team.export()
    return PipelineConfig.model_validate({"sources": [source], "run": {"workers": 1}, **settings})


def build(team, out, *, data=None, **settings):
    return build_from(config_of(team, **settings), out, data=data)


def fixes_of(out):
    return [row for row in rows_of(out) if row.task is Task.REVIEW_FIX]


def text_of(row, role):
    return "".join(segment.text for segment in row.segments if segment.role is role)


def everything_in(folder):
    shards = [pq.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))]
    return json.dumps(shards) + "".join(path.read_text() for path in folder.glob("*.json"))


def test_fixes_become_rows_on_the_side_of_their_commit(team, tmp_path):
    manifest = build(team, tmp_path / "out")
    assert manifest.split.method == "time"
    rows = {row.split: row for row in fixes_of(tmp_path / "out")}
    assert set(rows) == set(Split)
    for split, topic in ((Split.TRAIN, "kettle"), (Split.HELDOUT, "lantern")):
        row, path = rows[split], f"shop/{topic}.py"
        (place,) = row.provenance
        fixed = next(one for one in team.requests if one.title == topic).commits[-1]
        assert (place.repo, place.path, place.commit) == ("shop", path, fixed)
        assert place.blob == team.builder.git("rev-parse", f"{fixed}:{path}")
        assert (place.committed_at >= manifest.split.cutoff_at) == (split is Split.HELDOUT)
        assert ASK in text_of(row, Role.INSTRUCTION)
        blocks = [block for _, block in read_blocks(text_of(row, Role.ANSWER))]
        assert apply_blocks(text_of(row, Role.CONTEXT), blocks) == fixed_text(topic)


def test_a_fix_whose_request_train_knows_is_not_novel(team, tmp_path):
    build(team, tmp_path / "apart")
    (row,) = [row for row in fixes_of(tmp_path / "apart") if row.split is Split.HELDOUT]
    assert row.slice is Slice.NOVEL
    # the request of the last review is number 8
    team.builder.now = START + 5 * DAY
    text = module_text("apple").replace("total_apple_2 = 2", "total_apple_2 = 3")
    team.builder.commit({"shop/apple.py": text}, "Start the apple total at three (#8)")
    build(team, tmp_path / "known")
    (row,) = [row for row in fixes_of(tmp_path / "known") if row.split is Split.HELDOUT]
    assert row.slice is Slice.EVOLVING


def test_without_reviews_the_rows_are_those_of_before(team, tmp_path, key):
    build(team, tmp_path / "plain", reviews=False, redact={"key_file": key})
    build(team, tmp_path / "off", tasks={"review_fix": {"enabled": False}}, redact={"key_file": key})
    plain, off = bytes_of(tmp_path / "plain"), bytes_of(tmp_path / "off")
    assert [name for name in plain if plain[name] != off[name]] == ["manifest.json", "report.html"]
    assert not fixes_of(tmp_path / "off")


@pytest.mark.parametrize("path", ["shop/kettle.py", "shop/other/pot.py"])
def test_a_fix_of_a_purged_cluster_is_left_out(path, team, tmp_path):
    if path != "shop/kettle.py":
        # known by its text alone
        team.builder.git("rm", "-q", "shop/kettle.py")
    team.builder.commit({path: fixed_text("kettle", 12)}, "Start the kettle total at twelve")
    build(team, tmp_path / "out", split={"novel_share": 1.0, "max_purged_share": 0.5})
    assert {row.provenance[0].path for row in fixes_of(tmp_path / "out")} == {"shop/lantern.py"}
    fixed = team.requests[0].commits[-1]
    dropped = read_dropped(tmp_path / "out", stage="split")
    assert [one.reason for one in dropped if one.commit == fixed and one.path == "shop/kettle.py"]


def test_what_gives_no_fix_is_told_with_its_place(team, tmp_path):
    team.requests[0].threads[0].said[0].text = "ok"
    team.review("kiosk", folder="vendor/acme")
    team.review("mill")
    team.builder.commit({".gitattributes": "mill.py linguist-generated\n"}, "Say what a machine writes")
    build(team, tmp_path / "out")
    told = {(one.reason, one.path, one.commit) for one in read_dropped(tmp_path / "out", stage="review_fix")}
    record = "tree/project/merge_requests.ndjson"
    assert told >= {
        ("review thread: says less than 15 characters", f"{record}:1", ""),
        ("touches generated or vendored code", f"{record}:3", team.requests[2].commits[-1]),
        ("its file is left out: generated: marked in .gitattributes", f"{record}:4", team.requests[3].commits[-1]),
    }
    assert {row.provenance[0].path for row in fixes_of(tmp_path / "out")} == {"shop/lantern.py"}


def test_persons_and_secrets_of_reviews_reach_nothing_that_is_written(team, tmp_path):
    # the squash leaves her commits in no history: only the branch that the clone kept has them
    said = f"Grace Hopper said to start at ten, mail grace@corp.io, her token is {SECRET}."
    team.review("magnet", said, author=REVIEWER, squash=True)
    build(team, tmp_path / "out")
    (row,) = [row for row in fixes_of(tmp_path / "out") if row.provenance[0].path == "shop/magnet.py"]
    assert "said to start at ten" in text_of(row, Role.INSTRUCTION)
    written = everything_in(tmp_path / "out")
    assert not [text for text in ("Hopper", "grace@", SECRET, "mira") if text in written]


@pytest.mark.parametrize("content", [None, "{}", "nothing of JSON"])
def test_an_export_that_cannot_be_used_costs_the_reviews_alone(content, team, tmp_path):
    team.export("github-api")
    for file in team.export().iterdir():
        file.unlink()
    if content is not None:
        (team.export() / "comments.json").write_text(content)
    manifest = build(team, tmp_path / "out")
    (source,) = manifest.sources
    assert source.state == "partial"
    assert source.note.startswith("its reviews cannot be used: the export holds no merge requests")
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()
    assert not fixes_of(tmp_path / "out")
    assert [row for row in rows_of(tmp_path / "out") if row.task is Task.INFILL]


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one(team, tmp_path, key):
    # in a process of its own: pools speak over sockets, which tests may not open
    code = (
        "import json, sys; from pathlib import Path; from data_pipelines.config import PipelineConfig;"
        "from data_pipelines.pipeline import build_dataset; from finetune.terminal.progress import Progress;"
        "config = PipelineConfig.model_validate(json.loads(sys.argv[1])); out = Path(sys.argv[2]);"
        "build_dataset(config, out, data_folder=Path(f'{out}.data'), progress=Progress('x', None))"
    )
    for workers in (1, 2):
        config = config_of(team, run={"workers": workers}, redact={"key_file": key})
        arguments = [sys.executable, "-c", code, config.model_dump_json(exclude_unset=True), tmp_path / f"by-{workers}"]
        subprocess.run(arguments, check=True, capture_output=True)
    assert bytes_of(tmp_path / "by-1") == bytes_of(tmp_path / "by-2")
    assert fixes_of(tmp_path / "by-2")


class Stopped(BaseException):
    """As good as a kill: nothing of the pipeline catches it."""


def test_a_build_that_was_stopped_goes_on_to_the_same_bytes(team, tmp_path, key, monkeypatch):
    build(team, tmp_path / "whole", redact={"key_file": key})

    def stop(*_, **__):
        raise Stopped

    for module, name in ((reviewing, "FoundFixes"), (fix_reader.FixReader, "_made"), (reviewing, "_take_one")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, stop)
            with pytest.raises(Stopped):
                build(team, tmp_path / "cut", redact={"key_file": key})
    build(team, tmp_path / "cut", redact={"key_file": key})
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")


def test_a_second_build_reads_what_is_new_and_no_more(team, tmp_path, monkeypatch):
    build(team, tmp_path / "out")
    read = []
    checked, read_file = fix_reader.FixReader._checked, reader.Reader._file

    def check(self, item, fixes):
        read.append(fixes[0].thread.path)
        return checked(self, item, fixes)

    def file(self, item):
        read.append(item.path)
        return read_file(self, item)

    monkeypatch.setattr(fix_reader.FixReader, "_checked", check)
    monkeypatch.setattr(reader.Reader, "_file", file)
    monkeypatch.setattr(sourcing, "write_survey", lambda *_, **__: read.append("the history"))
    was = bytes_of(tmp_path / "out")
    team.export().parent.rename(tmp_path / "moved")
    team.export = lambda: tmp_path / "moved" / "reviews"
    (tmp_path / "out" / "report.html").unlink()
    build(team, tmp_path / "out")
    assert (read, bytes_of(tmp_path / "out")) == ([], was)
    for path in sorted(team.export().rglob("merge_requests.ndjson")):
        rows = path.read_text().splitlines(keepends=True)
        path.write_text(rows[0].replace("begin with ten", "begin with ten at least") + "".join(rows[1:]))
    build(team, tmp_path / "out")
    assert read == ["shop/kettle.py"]
    assert any("at least" in text_of(row, Role.INSTRUCTION) for row in fixes_of(tmp_path / "out"))


def test_another_author_has_only_the_fixes_that_name_him_made_again(team, tmp_path, monkeypatch):
    team.requests[0].threads[0].said[0].text = f"{ASK} Alan Turing says so too."
    build(team, tmp_path / "out")
    made = []
    make = fix_reader.FixReader._made

    def note(self, item, fixes, scan):
        made.append(fixes[0].thread.path)
        return make(self, item, fixes, scan)

    monkeypatch.setattr(fix_reader.FixReader, "_made", note)
    team.builder.commit({"shop/apple.md": "# Apples"}, "Tell of apples", author=("Alan Turing", "alan@corp.io"))
    build(team, tmp_path / "out")
    assert made == ["shop/kettle.py"]
    assert "Turing" not in everything_in(tmp_path / "out")


def test_where_an_export_lies_changes_nothing(team, tmp_path, key):
    build(team, tmp_path / "here", redact={"key_file": key})
    Path(team.export()).parent.rename(tmp_path / "moved")
    team.export = lambda: tmp_path / "moved" / "reviews"
    build(team, tmp_path / "there", redact={"key_file": key})
    assert bytes_of(tmp_path / "here") == bytes_of(tmp_path / "there")


def test_what_was_forgotten_is_in_no_fix_and_the_rest_is_not_read_again(team, tmp_path, monkeypatch):
    home, out = Home(tmp_path / "home"), tmp_path / "out"
    team.review("mill")
    build(team, out, data=home.data)
    key = find_key(home.data, None)
    removal = plan_removal(out, subject_of(out, path="shop:shop/kettle.py"), home=home, key=key)
    forget(removal, home=home, key=key)
    # the comments as people wrote them lie in the work folder until a build needs them
    assert not list(home.data.rglob("fixes.parquet"))
    read = []
    read_file, make = reader.Reader._file, fix_reader.FixReader._made

    def file(self, item):
        read.append(item.path)
        return read_file(self, item)

    def made(self, item, fixes, scan):
        read.append(fixes[0].thread.path)
        return make(self, item, fixes, scan)

    monkeypatch.setattr(reader.Reader, "_file", file)
    monkeypatch.setattr(fix_reader.FixReader, "_made", made)
    (out / "report.html").unlink(missing_ok=True)
    build(team, out, data=home.data)
    assert sorted(read) == ["shop/lantern.py", "shop/mill.py"]
    assert not [row for row in rows_of(out) if "kettle" in row.model_dump_json()]
    assert fixes_of(out)
