"""A configuration that refers to code is refused by file and field, before a library reads it."""

import json
from pathlib import Path

import pytest

from finetune.contracts.code_references import code_references, refuse_code
from finetune.contracts.errors import BaseModelError
from finetune.model.identity import read_identity, read_model_type
from finetune.model.loading import load_base, load_tokenizer
from finetune.model.shape import meta_model
from finetune.recipe.resolve import base_folder

ROOT = Path(__file__).resolve().parents[4]
REFUSED = {
    "auto_map": {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}},
    "vision_config.auto_map": {"vision_config": {"auto_map": {"AutoConfig": "x.Y"}}},
    "parts[1].auto_map": {"parts": [{}, {"auto_map": ["x.Y"]}]},
    "custom_pipelines": {"custom_pipelines": {"text-generation": {"impl": "run.Pipeline"}}},
    "custom_generate": {"custom_generate": "someone/generate"},
    "trust_remote_code": {"trust_remote_code": True},
    "_attn_implementation": {"_attn_implementation": "someone/kernels"},
    "attn_implementation": {"attn_implementation": {"": "sdpa", "text_config": "someone/kernels:attention"}},
    "vision_attn_implementation": {"vision_attn_implementation": {"": {"": {"": "sdpa"}}}},
    "_experts_implementation_internal": {"_experts_implementation_internal": "sonicmoe"},
    "text_config.linear_attn_implementation": {"text_config": {"linear_attn_implementation": "someone/else@main"}},
    "quantization_config": {"quantization_config": {"quant_method": "mxfp4"}},
    "text_config.quantization_config": {"text_config": {"quantization_config": {"quant_method": ["bitsandbytes"]}}},
    "use_kernels": {"use_kernels": True},
    "kernel_config": {"kernel_config": {"RMSNorm": "someone/kernels:RMSNorm"}},
    "auto_mapping": {"auto_mapping": {"base_model_class": "M", "parent_library": "os"}},
}
TAKEN = (
    {"auto_map": None, "auto_mapping": None, "trust_remote_code": False, "use_kernels": False, "custom_pipelines": {}},
    {"_attn_implementation": "sdpa", "attn_implementation": {"": "eager", "text_config": None}},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
    {"quantization_config": {"quant_method": "nf4_with_experts"}, "experts_implementation": "nf4_with_experts"},
)


@pytest.mark.parametrize(("field", "document"), REFUSED.items(), ids=REFUSED.keys())
def test_each_reference_is_found_at_its_field(field, document):
    assert [found for found, _ in code_references(document)] == [field]


@pytest.mark.parametrize("document", TAKEN)
def test_fields_that_say_nothing_or_what_is_known_are_taken(document):
    assert list(code_references(document)) == []


def test_published_configurations_and_the_embedded_base_refer_to_no_code():
    folders = [base_folder("embedded"), *(path.parent for path in (ROOT / "tests" / "assets").rglob("config.json"))]
    assert len(folders) > 5
    for folder in folders:
        refuse_code(folder, error=BaseModelError)


@pytest.fixture
def base(tiny_base, tmp_path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    for path in tiny_base.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "extra.json"])
def test_a_base_is_refused_before_anything_of_it_is_loaded(base, name, monkeypatch):
    path = base / name
    document = json.loads(path.read_text()) if path.exists() else {}
    path.unlink(missing_ok=True)
    path.write_text(json.dumps({**document, "auto_map": {"AutoConfig": "evil.Config", "AutoTokenizer": "evil.T"}}))
    (base / "evil.py").write_text("raise SystemExit('code of the base was run')")
    readers = [read_identity, read_model_type, load_tokenizer, lambda folder: load_base(folder, quantization="none")]
    for read in [*readers, *([meta_model] if name == "config.json" else [])]:
        with pytest.raises(BaseModelError, match=f"{name}: auto_map names code that would be imported"):
            read(base)


def test_a_file_that_is_no_json_is_refused_by_name(base):
    (base / "processor_config.json").write_text("[" * 100_000)
    with pytest.raises(BaseModelError, match=r"processor_config\.json is damaged"):
        refuse_code(base, error=BaseModelError)


def test_no_code_of_this_project_trusts_remote_code():
    trusting = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in ("finetune", "data_pipelines", "serving", "bench")
        for path in (ROOT / package).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "trust_remote_code" in line and "trust_remote_code=False" not in line
    ]
    assert [place.partition(":")[0] for place in trusting] == ["finetune/contracts/code_references.py"]
