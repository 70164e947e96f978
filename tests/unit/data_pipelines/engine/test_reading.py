"""What a build holds while it reads many repositories."""

import json
import resource
import shutil
import subprocess
import sys

import pytest

from data_pipelines.engine.reading import SPARE
from tests.unit.data_pipelines.building import key_file

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
