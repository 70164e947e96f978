"""What a user gets wrong: one clear message, the exit code of the house, and nothing harmed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONSOLE_SCRIPT = Path(sys.executable).parent / "finetune"
BROKEN_RECIPE = """name: broken
base:
  path: embedded
  quantisation: nf4
lora:
  rank: lots
train:
  epochs: 1000
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [str(CONSOLE_SCRIPT), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def git(folder: Path, *arguments: str) -> None:
    author = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@a.invalid"}
    committer = {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@a.invalid"}
    subprocess.run(["git", *arguments], cwd=folder, check=True, env={**os.environ, **author, **committer})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with one of each thing that a user may name by mistake."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "file.txt").write_text("no repository")
    (folder / "plain").mkdir()
    for name in ("empty", "prose"):
        (folder / name).mkdir()
        git(folder / name, "init", "-q", "-b", "main")
    (folder / "prose" / "README.md").write_text("# Prose\n\nNo code here.\n")
    git(folder / "prose", "add", ".")
    git(folder / "prose", "commit", "-q", "-m", "prose")
    (folder / "broken.yaml").write_text(BROKEN_RECIPE)
    (folder / "torn.yaml").write_text("name: [torn\n")
    (folder / "no-base.yaml").write_text("name: x\nbase:\n  path: nowhere\n")
    (folder / "good.yaml").write_text("name: good\nbase:\n  path: embedded\n")
    (folder / "torn-adapter").mkdir()
    (folder / "torn-adapter" / "manifest.json").write_text('{"schema_version": 1')
    return folder


CASES = [
    (["data", "build", "--repo", "missing", "--out", "d"], 3, "missing"),
    (["data", "build", "--repo", "file.txt", "--out", "d"], 3, "file.txt"),
    (["data", "build", "--repo", "plain", "--out", "d"], 3, "plain"),
    (["data", "build", "--repo", "empty", "--out", "d"], 3, "empty"),
    (["data", "build", "--repo", "prose", "--out", "d"], 3, "prose"),
    (["data", "build", "nowhere.yaml", "--out", "d"], 3, "nowhere.yaml"),
    (["data", "build", "--out", "d"], 2, "--repo"),
    (["data", "stats", "plain"], 3, "plain"),
    (["demo", "--repo", "prose", "--home", "h"], 3, "prose"),
    (["demo", "--repo", "missing"], 3, "missing"),
    (["recipe", "validate", "missing.yaml"], 3, "missing.yaml"),
    (["recipe", "validate", "torn.yaml"], 3, "torn.yaml:2"),
    (["recipe", "validate", "no-base.yaml"], 3, "nowhere"),
    (["recipe", "show", "good.yaml", "--set", "lora.rnk=3"], 2, "lora.rank"),
    (["recipe", "show", "good.yaml", "--set", "lora.rank"], 2, "key=value"),
    (["train", "good.yaml"], 2, "data.dataset"),
    (["train", "good.yaml", "--set", "data.dataset=plain"], 3, "plain"),
    (["train"], 2, "--resume"),
    (["train", "--resume", "nobody"], 3, "nobody"),
    (["evaluate", "nobody"], 3, "nobody"),
    (["adapter", "verify", "nobody"], 3, "nobody"),
    (["adapter", "verify", "torn-adapter"], 3, "manifest.json"),
    (["serve", "start", "nowhere"], 3, "nowhere"),
    (["nonsense"], 2, "nonsense"),
    (["data", "build", "--rep", "x"], 2, "--rep"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_one_message_names_the_thing(place, arguments, code, words):
    before = listing(place)
    done = run(*arguments, cwd=place)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr and "bug" not in done.stderr
    assert done.stdout == ""
    assert listing(place) == before


def test_all_mistakes_of_a_recipe_come_at_once_with_line_and_nearest_key(place):
    done = run("recipe", "validate", "broken.yaml", cwd=place)
    assert done.returncode == 3
    assert "broken.yaml:4" in done.stderr and "quantization" in done.stderr
    assert "broken.yaml:6" in done.stderr and "broken.yaml:8" in done.stderr


def test_a_failed_build_leaves_the_dataset_that_was_there(place, tmp_path):
    out = tmp_path / "dataset"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    done = run("data", "build", "--repo", "prose", "--out", str(out), cwd=place)
    assert done.returncode == 3 and listing(tmp_path) == {"dataset/notes.txt": "mine"}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_harms_nothing(place, tmp_path):
    repo, disk = tmp_path / "repo", tmp_path / "disk"
    repo.mkdir()
    disk.mkdir()
    git(repo, "init", "-q", "-b", "main")
    for number in range(40):
        body = "\n".join(f"    total_{number}_{line} = values[{line}] * {number}" for line in range(60))
        (repo / f"module_{number}.py").write_text(f"def compute_{number}(values):\n{body}\n    return values\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "modules")
    build = f"{CONSOLE_SCRIPT} data build --repo {repo} --out {disk}/out"
    script = f"mount -t tmpfs -o size=16k none {disk} && echo mine > {disk}/mine && {build}; c=$?; ls {disk}; exit $c"
    private = ["unshare", "-m", "sh", "-c", script]
    done = subprocess.run(private, capture_output=True, text=True, timeout=120, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine allows no private mount")
    assert done.returncode == 4, done.stderr
    assert "No space left" in done.stderr and "Traceback" not in done.stderr
    assert done.stdout.split() == ["mine"]


def listing(folder: Path) -> dict[str, str]:
    """Every file below folder with its text, but git's own and what data builds keep in a home for the next."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if ".git" not in path.parts and "data" not in path.relative_to(folder).parts[1:2] and path.is_file()
    }
