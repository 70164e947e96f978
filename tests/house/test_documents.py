"""README's tree, docs/cli.md, the changelog and the lock file say what is so."""

import re
import subprocess
import tomllib
from pathlib import Path

import finetune
from finetune.cli.families import families_page
from finetune.cli.reference import command_reference

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {"finetune", "data_pipelines", "serving", "recipes", "tests", "bench", "infra", "docs"}


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listing.split("\n") if name]


def tree_folders(readme: str) -> list[str]:
    """Folder names of README's tree, nested ones with their parent: "finetune/contracts/"."""
    block = readme.split("```text\n", 1)[1].split("```", 1)[0]
    folders, parents = [], []
    for line in block.splitlines():
        found = re.match(r"^( *)([\w.]+/)", line)
        if found:
            depth = len(found.group(1)) // 2
            parents = [*parents[:depth], found.group(2)]
            folders.append("".join(parents))
    return folders


def test_readme_names_each_folder_once_and_each_exists():
    listed = tree_folders((ROOT / "README.md").read_text())
    assert len(listed) == len(set(listed))
    packages = {
        f"{part[0]}/{part[1]}/" for name in tracked() if len(part := name.split("/")) > 2 and part[0] in {"finetune"}
    }
    tops = {f"{name.split('/')[0]}/" for name in tracked() if name.split("/")[0] in TOP_LEVEL}
    assert set(listed) >= packages | tops
    assert [folder for folder in listed if not (ROOT / folder).is_dir()] == []


def test_the_command_reference_is_up_to_date():
    assert (ROOT / "docs" / "cli.md").read_text() == command_reference(), (
        "run: .venv/bin/python -m finetune.cli.reference"
    )


def test_the_page_of_families_is_up_to_date():
    assert (ROOT / "docs" / "families.md").read_text() == families_page(), (
        "run: .venv/bin/python -m finetune.cli.families"
    )


def test_links_in_the_documents_lead_somewhere():
    broken = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_changelog_knows_the_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "[Unreleased]" in text or f"[{finetune.__version__}]" in text


def test_the_lock_pins_each_requirement_exactly():
    lock = dict(
        line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"
    )
    normal = {name.lower().replace("_", "-"): version for name, version in lock.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["serve"],
        *project["optional-dependencies"]["dev"],
    ]
    names = [re.split(r"[<>=\[;~! ]", requirement)[0].lower().replace("_", "-") for requirement in wanted]
    assert [name for name in names if name not in normal] == []
    assert normal["torch"] == "2.13.0"


def test_nothing_tracked_names_a_registry_or_a_path_of_a_machine():
    # in pieces, so that this file need not be excused
    names = [("py", "pi.org"), ("python", "hosted"), ("npm", "js."), ("deb.", "debian")]
    hosts = "|".join(re.escape("".join(parts)) for parts in names)
    pattern = re.compile(hosts + r"|(?<![\w.])/(?:work|root|home/\w+)/")
    found = []
    for name in tracked():
        path = ROOT / name
        if path.suffix in {".safetensors", ".png", ".parquet"} or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if pattern.search(text):
            found.append(name)
    assert found == []
