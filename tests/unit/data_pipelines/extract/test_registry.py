import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.config import PipelineConfig, load_pipeline
from data_pipelines.extract.registry import LANGUAGES, extractor_for
from data_pipelines.filters.language import DATA, SUFFIXES

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_listed_language_has_its_extractor_and_a_suffix(language):
    assert extractor_for(language).language == language
    assert SUFFIXES[language]


def test_the_configuration_takes_the_list_as_it_is():
    assert PipelineConfig().languages == LANGUAGES
    assert DATA.isdisjoint(LANGUAGES)


def test_the_configuration_loads_no_parser():
    code = "import sys, data_pipelines.config; print(*(m for m in sys.modules if m.startswith('tree_sitter')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_language_that_is_not_listed_gets_no_spans_but_no_refusal_either():
    extractor = extractor_for("lua")
    assert extractor.parses(b"local x = (")
    assert not extractor.stands_alone(b"local x = 1")
    assert extractor.units(b"local x = 1\n").spans == {}
    assert extractor.module_paths("a.b", "c.lua") == []


def test_the_default_pipeline_and_the_page_name_every_language():
    assert load_pipeline(ROOT / "recipes" / "data" / "default.yaml") == PipelineConfig()
    page = (ROOT / "docs" / "filters.md").read_text()
    assert [language for language in LANGUAGES if f"`{language}`" not in page] == []
