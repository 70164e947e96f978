import re
from pathlib import Path

import pytest

from data_pipelines.config import PipelineConfig, load_pipeline
from finetune.contracts.dataset import Task
from finetune.contracts.errors import RecipeError
from finetune.contracts.yaml_file import known_keys

ROOT = Path(__file__).resolve().parents[3]
TABLE_OF_KEYS = re.compile(r"^\| key \| default \| meaning \|\n(?:\|.*\n)+", re.MULTILINE)
# a whole key; one with a star or "<task>" stands for several
KEY = re.compile(r"`([a-z_]+(?:\[\])?(?:\.[a-z_]+)+)`")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "data").glob("*.yaml")), ids=lambda path: path.name)
def test_each_shipped_pipeline_loads_and_is_short(path):
    assert load_pipeline(path).tasks.infill.enabled
    assert path.read_text().count("\n") <= 40


def test_all_mistakes_come_at_once_with_line_and_nearest_key(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "fliters:\n  min_bytes: 3\ntasks:\n  infill:\n    max_rows_per_file: 0\nlanguages: [cobol]\nseed: many\n"
    )
    with pytest.raises(RecipeError) as caught:
        load_pipeline(path)
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert f"{path}:1: fliters: unknown key; did you mean filters?" in problems
    assert f"{path}:5: tasks.infill.max_rows_per_file" in problems
    assert "supported languages are: python, javascript" in problems
    assert f"{path}:7: seed" in problems


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- 1\n",
        "sources: !!python/object:x {}\n",
        "sources:\n  - path: x\n    ref: --all\n",
        "sources:\n  - name: x\n",
        "sources:\n  - path: x\n    mirrors: y\n",
        "sources:\n  - path: x\n    weight: 0\n",
        "sources:\n  - path: x\n    exclude: ['!a']\n",
        "sources:\n  - path: x\n    filters: {min_byte: 3}\n",
        "filters:\n  thresholds: {cobol: {max_lines: 100}}\n",
    ],
)
def test_broken_files_are_recipe_errors(text, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"bad\.yaml"):
        load_pipeline(path)


def test_a_relative_source_starts_at_the_files_folder(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("sources:\n  - path: repos/api\n  - path: /srv/shop\n")
    assert [source.path for source in load_pipeline(path).sources] == [tmp_path / "repos/api", Path("/srv/shop")]


def test_names_are_made_unique_and_lose_their_ending():
    config = PipelineConfig.for_repositories([Path("/a/api.git"), Path("/b/api")])
    assert [source.name for source in config.named_sources()] == ["api", "api-2"]


def test_with_repositories_keeps_the_rest():
    config = PipelineConfig(seed=4).with_repositories([Path("x")])
    assert (config.seed, len(config.sources)) == (4, 1)


def test_every_task_is_kept_whole_unless_the_file_says_otherwise():
    assert set(PipelineConfig().tasks.weights().values()) == {1.0}
    tasks = PipelineConfig.model_validate({"tasks": {"tests": {"weight": 0.5}}}).tasks
    assert tasks.weights()[Task.TESTS] == 0.5
    assert Task.SEARCH_REPLACE in tasks.weights()


def test_the_pages_name_every_key_and_no_other():
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("data.md", "tasks.md"))

    known = list(known_keys(PipelineConfig))
    sections = {key.rpartition(".")[0] for key in known} | {"sources"}
    keys = [
        key.replace("sources.", "sources[].")
        for key in known
        # the filters of a source are those of the pipeline
        if key not in sections and not key.startswith("sources.filters.")
    ]
    assert "`sources[].filters`" in pages
    assert len(keys) > 30
    assert [key for key in keys if not any(f"`{name}`" in pages for name in names_of(key))] == []
    cells = [row.split(" | ")[0] for table in TABLE_OF_KEYS.findall(pages) for row in table.splitlines()]
    written = {key.replace("[]", "") for cell in cells for key in KEY.findall(cell)}
    assert len(written) > 30
    assert sorted(written - set(known)) == []


def names_of(key: str) -> list[str]:
    """How the page may name a key: whole, by its end after another, for each task, or by a section like another."""
    parts = key.split(".")
    names = [key, f".{parts[-1]}", *(".".join(parts[:place]) + ".*" for place in range(2, len(parts)))]
    return [*names, f"tasks.<task>.{parts[-1]}"] if parts[0] == "tasks" else names
