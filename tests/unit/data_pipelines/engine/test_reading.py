"""What a build holds while it reads many repositories."""

import json
import resource
import shutil
import subprocess
import sys

import pytest

from data_pipelines.engine import reader
from data_pipelines.engine.reading import SPARE
from data_pipelines.sources.git import Repository
from finetune.contracts.dataset import Task
from tests.unit.data_pipelines.building import build, dropped_of, key_file, rows_of

CODE = "import sys; from finetune.cli.main import run; sys.exit(run(sys.argv[1:]))"
MAX_FILES = 56


@pytest.mark.slow
def test_repositories_may_outnumber_the_files_that_may_be_open(make_repository, shop, tmp_path):
    pipeline, out = tmp_path / "pipeline.yaml", tmp_path / "set"
    shutil.copytree(shop, tmp_path / "long")
    builder = make_repository("long")
    text = (builder.path / "shop" / "apple.py").read_text()
    for number in range(SPARE + 10):
        changed = text.replace("total_apple_0 = 0", f"total_apple_0 = {number + 1}")
        builder.commit({"shop/apple.py": changed}, f"Start the apple total of the shop at {number + 1}")
    for number in range(MAX_FILES):
        shutil.copytree(builder.path, tmp_path / f"copy-{number}")
    document = {
        "sources": [{"path": str(tmp_path / "copy-*")}],
        "redact": {"key_file": str(key_file(out))},
        # so that no history is read to its end
        "tasks": {"commit_edit": {"max_rows_per_source": 1}},
        "run": {"workers": 1},
    }
    pipeline.write_text(json.dumps(document))
    done = subprocess.run(
        [sys.executable, "-c", CODE, "data", "build", pipeline, "--out", out, "--home", tmp_path / "home"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def half_usable(make_repository, shop):
    """A repository whose every second commit changes the formatting of a module alone."""
    builder = make_repository("half")
    text = (shop / "shop" / "apple.py").read_text()
    builder.commit({f"shop/{path.name}": path.read_text() for path in (shop / "shop").glob("*.py")}, "Open the shop")
    for number in range(1, 13):
        changed = text.replace("total_apple_0 = 0", f"total_apple_0 = {number}")
        builder.commit({"shop/apple.py": changed.replace(" = ", "  =  ")}, f"Start the apple total at {number} apples")
        builder.commit({"shop/apple.py": changed}, f"Write the apple module {number} as the others are")
    return builder.path


def test_no_more_commits_are_read_than_the_share_of_usable_ones_asks_for(half_usable, tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipelines.engine.reading.SPARE", 0)
    read, plain = [], reader.Reader._edit
    monkeypatch.setattr(reader.Reader, "_edit", lambda self, item: read.append(item.commit) or plain(self, item))
    build([half_usable], tmp_path / "set", tasks={"commit_edit": {"max_rows_per_source": 4}})
    # five of which two are usable, then five for the two that are still wanted
    assert len(read) == len(set(read)) == 10
    reasons = [row["reason"] for row in dropped_of(tmp_path / "set") if row["stage"] == "commit_edit"]
    assert reasons.count("changes formatting only") == 4
    assert reasons.count("more than 4 newer edits were kept") == 16


def test_commits_that_follow_one_another_read_each_blob_once(half_usable, tmp_path, monkeypatch):
    limit = 20_004
    blobs, plain = [], Repository.content

    def spy(self, blob, *, max_bytes):
        if max_bytes == 4 * limit:
            blobs.append(blob)
        return plain(self, blob, max_bytes=max_bytes)

    monkeypatch.setattr(Repository, "content", spy)
    build([half_usable], tmp_path / "set", tasks={"commit_edit": {"max_before_bytes": limit}})
    assert len(blobs) == len(set(blobs)) == 25
    assert any(row.task == Task.COMMIT_EDIT for row in rows_of(tmp_path / "set"))
