"""The base that ships: small enough, and what its card says."""

import json

import pytest

from finetune.embedded import BASE_FOLDER
from finetune.embedded.card import CARD_NAME, RECORD_NAME
from finetune.embedded.corpus import held_out_documents
from finetune.embedded.measure import WORD, bits_per_byte, infill_exact_match, wilson, xz_bits_per_byte
from finetune.embedded.tokenizer import SPECIAL, Encoder
from finetune.families.registry import family_for

MAX_BYTES = 24_000_000
MAX_BITS_PER_BYTE = 1.6
# Lower ends of the 95 % intervals of the shares that infill gets exactly right
MIN_EXACT = {"word": 0.02, "rest of a line": 0.009, "line": 0.002}


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
    assert family.for_tokenizer(tokenizer).tokens == family.tokens
    assert len(tokenizer) == 8192 and tokenizer.chat_template
    assert {tokenizer.convert_tokens_to_ids(name) for name in SPECIAL} == set(Encoder(BASE_FOLDER).special.values())


def test_the_card_names_each_figure_and_each_licence(record):
    card = (BASE_FOLDER / CARD_NAME).read_text()
    assert f"{record['bits_per_byte']:.3f}" in card
    assert all(f"| {match['kind']} | {match['hits']} of {match['spans']} |" in card for match in record["exact_match"])
    assert all(f"| {name} | {terms} |" in card for name, terms in record["licenses"])
    assert "stand-in" in card


def test_its_bits_per_byte_keep_the_bar(record):
    assert record["bits_per_byte"] <= MAX_BITS_PER_BYTE


def test_its_infill_is_exact_more_often_than_never(record):
    matches = {match["kind"]: match for match in record["exact_match"]}
    assert matches.keys() == MIN_EXACT.keys()
    for kind, least in MIN_EXACT.items():
        assert matches[kind]["low"] >= least, kind
        assert wilson(matches[kind]["hits"], matches[kind]["spans"]) == (matches[kind]["low"], matches[kind]["high"])


@pytest.mark.slow
def test_the_words_of_the_card_are_filled_in_again(record, model):
    documents = held_out_documents()
    match = infill_exact_match(model, Encoder(BASE_FOLDER), documents, kinds=(WORD,))[0]
    # another processor may round a near tie the other way
    assert match.hits == pytest.approx(record["exact_match"][0]["hits"], abs=3)


@pytest.mark.slow
def test_the_bits_per_byte_of_the_card_are_measured_again(record, model):
    documents = held_out_documents()
    assert len(documents) == record["heldout_files"], "the environment is not that of requirements.lock"
    sample = [document for document in documents if document.package == "starlette"]
    expected = {name: (bits, xz) for name, bits, xz in record["by_package"]}["starlette"]
    assert bits_per_byte(model, Encoder(BASE_FOLDER), sample) == pytest.approx(expected[0], rel=0.01)
    assert xz_bits_per_byte(sample) == pytest.approx(expected[1], rel=0.01)
