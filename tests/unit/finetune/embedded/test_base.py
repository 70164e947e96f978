"""The base that ships: small enough, and what its card says."""

import json

import pytest

from finetune.embedded import BASE_FOLDER
from finetune.embedded.card import CARD_NAME, RECORD_NAME
from finetune.embedded.corpus import held_out_documents
from finetune.embedded.measure import bits_per_byte, xz_bits_per_byte
from finetune.embedded.tokenizer import SPECIAL, Encoder
from finetune.families.registry import family_for

MAX_BYTES = 24_000_000
MAX_BITS_PER_BYTE = 1.6


@pytest.fixture(scope="module")
def record():
    return json.loads((BASE_FOLDER / RECORD_NAME).read_text())


@pytest.fixture(scope="module")
def model():
    from finetune.contracts.adapter import Quantization
    from finetune.model.loading import load_base

    return load_base(BASE_FOLDER, quantization=Quantization.NONE, device="cpu").model


def test_it_is_small_and_holds_no_code_to_run():
    files = sorted(path.name for path in BASE_FOLDER.iterdir())
    assert sum((BASE_FOLDER / name).stat().st_size for name in files) <= MAX_BYTES
    assert "model.safetensors" in files
    assert not [name for name in files if name.endswith((".py", ".bin", ".pt", ".pkl"))]


def test_the_family_accepts_its_tokenizer():
    from finetune.model.loading import load_tokenizer

    family = family_for(json.loads((BASE_FOLDER / "config.json").read_text())["model_type"])
    tokenizer = load_tokenizer(BASE_FOLDER)
    family.check_tokenizer(tokenizer)
    assert len(tokenizer) == 8192 and tokenizer.chat_template
    assert {tokenizer.convert_tokens_to_ids(name) for name in SPECIAL} == set(Encoder(BASE_FOLDER).special.values())


def test_the_card_names_each_figure_and_each_licence(record):
    card = (BASE_FOLDER / CARD_NAME).read_text()
    assert f"{record['bits_per_byte']:.3f}" in card and f"{record['exact_match']['hits']} of" in card
    assert all(f"| {name} | {terms} |" in card for name, terms in record["licenses"])
    assert "stand-in" in card


def test_its_bits_per_byte_keep_the_bar(record):
    assert record["bits_per_byte"] <= MAX_BITS_PER_BYTE


@pytest.mark.slow
def test_the_bits_per_byte_of_the_card_are_measured_again(record, model):
    documents = held_out_documents()
    assert len(documents) == record["heldout_files"], "the environment is not that of requirements.lock"
    sample = [document for document in documents if document.package == "starlette"]
    expected = {name: (bits, xz) for name, bits, xz in record["by_package"]}["starlette"]
    assert bits_per_byte(model, Encoder(BASE_FOLDER), sample) == pytest.approx(expected[0], rel=0.01)
    assert xz_bits_per_byte(sample) == pytest.approx(expected[1], rel=0.01)
