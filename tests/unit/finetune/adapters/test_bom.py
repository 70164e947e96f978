"""A bill of materials is one by CycloneDX's own schema, and names what an adapter was made of."""

import json
from importlib.metadata import version

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from finetune.adapters.bom import (
    BOM_NAME,
    Materials,
    bom_document,
    installed_libraries,
    written_materials,
)
from finetune.contracts.adapter import Score
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import write_json
from tests.unit.manifests import build_manifest

SCORE = Score(
    name="bits per byte", unit="bit", base=1.0, adapter=0.5, difference=-0.5, low=-0.6, high=-0.4, num_items=100,
    num_clusters=20, verdict="better",
)  # fmt: skip


@pytest.fixture(scope="module")
def libraries():
    return installed_libraries()


@pytest.fixture
def manifest():
    return build_manifest("shop-0123456789ab", digests={"weights": "e" * 64, "dataset": "d" * 64}, scores=(SCORE,))


def parts(document) -> dict[str, dict]:
    return {part["bom-ref"]: part for part in document["components"]}


def test_the_document_is_one_by_the_schema(manifest, libraries):
    for materials in (Materials(libraries, "apache-2.0"), Materials()):
        text = json.dumps(bom_document(manifest, materials))
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"data"', '"book"')) is not None


def test_it_names_base_dataset_recipe_libraries_and_scores(manifest, libraries):
    document = bom_document(manifest, Materials(libraries, "apache-2.0"))
    found = parts(document)
    assert found["base"]["licenses"] == [{"license": {"name": "apache-2.0"}}]
    assert found["base"]["properties"] == [{"name": "finetune:digest", "value": "b" * 64}]
    assert found["dataset"]["properties"] == [{"name": "finetune:digest", "value": "d" * 64}]
    pydantic = found[f"pkg:pypi/pydantic@{version('pydantic')}"]
    assert pydantic["licenses"] in ([{"expression": "MIT"}], [{"license": {"name": "MIT"}}])
    adapter = document["metadata"]["component"]
    assert adapter["hashes"] == [{"alg": "SHA-256", "content": "e" * 64}]
    _, _, difference = adapter["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert difference["confidenceInterval"] == {"lowerBound": "-0.6", "upperBound": "-0.4"}
    assert set(document["dependencies"][0]["dependsOn"]) == set(found)


def test_libraries_are_those_that_the_project_needs(libraries):
    names = {library.name for library in libraries}
    # of the project itself, of what it needs, and what merely lies in the environment of its tests
    assert {"torch", "peft", "tokenizers"} <= names and not {"finetune", "ruff", "pytest"} & names
    assert sum(bool(library.licence) for library in libraries) > 0.9 * len(libraries)


def test_what_was_written_with_an_adapter_is_read_from_it(tmp_path, manifest, libraries):
    materials = Materials(libraries, "apache-2.0")
    assert written_materials(tmp_path) == Materials()
    write_json(tmp_path / BOM_NAME, bom_document(manifest, materials))
    assert written_materials(tmp_path) == materials
    (tmp_path / BOM_NAME).write_text('{"components": [{}]}')
    with pytest.raises(AdapterError, match=BOM_NAME):
        written_materials(tmp_path)


def test_another_library_may_answer_for_the_standard_one(libraries):
    importlib_metadata = pytest.importorskip("importlib_metadata")
    # its import puts it in the place of importlib.metadata's own finder, for the rest of the process
    assert importlib_metadata.version("torch") == version("torch")
    assert installed_libraries() == libraries
