"""What is refused of an adapter whose manifest was made to fit, as one who forges an adapter makes it."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune.contracts.adapter_files import list_files, read_manifest, write_manifest
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import digest_file
from finetune.contracts.sound_adapter import AdapterLimits, check_sound
from tests.unit.bare_adapters import save_bare_adapter, save_config, save_weights

WEIGHTS = "adapter_model.safetensors"
STEM = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
A = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
B = {"dtype": "F32", "shape": [4, 2], "data_offsets": [32, 64]}


@pytest.fixture
def folder(tmp_path) -> Path:
    return save_bare_adapter(tmp_path / "shop", rank=2)


def forge(folder: Path, **changes: object) -> None:
    """Let the manifest name the files as they are by now, and seal it."""
    manifest = read_manifest(folder)
    digests = manifest.digests.model_copy(update={"weights": digest_file(folder / WEIGHTS)})
    fields = {"digests": digests, "files": list_files(folder), **changes}
    write_manifest(folder, manifest.model_copy(update=fields))


def refused(folder: Path, match: str) -> None:
    with pytest.raises(AdapterError, match=match):
        check_sound(folder)


def write_header(folder: Path, text: str, content: bytes = bytes(64)) -> None:
    encoded = text.encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(encoded)) + encoded + content)


def test_a_sound_one_passes_also_without_a_bound(folder):
    forge(folder)
    assert check_sound(folder) == check_sound(folder, AdapterLimits(max_rank=2, max_bytes=1 << 20))


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({f"{STEM}A.weight": A, f"{STEM}B.weight": {**B, "data_offsets": [16, 48]}}, "gap or an overlap"),
        ({f"{STEM}A.weight": A, f"{STEM}B.weight": {**B, "data_offsets": [0, 32]}}, "gap or an overlap"),
        ({f"{STEM}A.weight": A, f"{STEM}B.weight": {**B, "data_offsets": [36, 68]}}, "gap or an overlap"),
        ({f"{STEM}A.weight": A}, "32 bytes behind its tensors"),
        ({f"{STEM}A.weight": A, f"{STEM}B.weight": B, f"{STEM}C.weight": {**B, "data_offsets": [64, 96]}}, "cut short"),
        ({f"{STEM}A.weight": {**A, "shape": [4, 4]}, f"{STEM}B.weight": B}, "another number of bytes"),
        ({f"{STEM}A.weight": {**A, "dtype": "F64"}, f"{STEM}B.weight": B}, "16- or 32-bit"),
        ({f"{STEM}A.weight": {**A, "dtype": ["F32"]}, f"{STEM}B.weight": B}, "16- or 32-bit"),
        ({f"{STEM}A.weight": {**A, "shape": [-2, -4]}, f"{STEM}B.weight": B}, "is no tensor"),
        ({f"{STEM}A.weight": {**A, "shape": [True, 8]}, f"{STEM}B.weight": B}, "is no tensor"),
        ({f"{STEM}A.weight": {**A, "more": 1}, f"{STEM}B.weight": B}, "is no tensor"),
        ({f"{STEM}A.weight": A, f"{STEM}B.weight": B, "__metadata__": {"a": 5}}, "metadata"),
        ({"lm_head.weight": A, f"{STEM}B.weight": B}, "no factor"),
        ({f"{STEM}A.weight": {**A, "shape": [4, 2]}, f"{STEM}B.weight": B}, "rank and targets"),
    ],
)
def test_a_header_that_is_not_what_its_file_holds_is_refused(folder, header, match):
    save_weights(folder, header, 64)
    forge(folder)
    refused(folder, match)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (json.dumps({f"{STEM}A.weight": A})[:-1] + "," + json.dumps({f"{STEM}A.weight": A})[1:], "twice"),
        ("[" * 100_000, "no valid JSON"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "no finite number"),
        ("[]", "no JSON object"),
    ],
)
def test_a_header_that_two_readers_may_read_in_two_ways_is_refused(folder, text, match):
    write_header(folder, text)
    forge(folder)
    refused(folder, match)


@pytest.mark.parametrize("length", [0, 1 << 24 | 1, (1 << 64) - 1])
def test_a_header_of_a_length_that_is_none_is_refused_before_it_is_read(folder, length):
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + bytes(100))
    forge(folder)
    refused(folder, "is no safetensors file")


@pytest.mark.parametrize(
    ("dtype", "number"),
    [("F32", b"\x00\x00\xc0\x7f"), ("F32", b"\x00\x00\x80\xff"), ("BF16", b"\xc0\x7f"), ("F16", b"\x00\x7c")],
)
def test_a_number_that_is_not_finite_is_refused_by_its_tensor_s_name(folder, dtype, number):
    size = len(number)
    header = {
        f"{STEM}A.weight": {"dtype": dtype, "shape": [2, 4], "data_offsets": [0, 8 * size]},
        f"{STEM}B.weight": {"dtype": dtype, "shape": [4, 2], "data_offsets": [8 * size, 16 * size]},
    }
    write_header(folder, json.dumps(header), bytes(16 * size))
    forge(folder)
    check_sound(folder)
    write_header(folder, json.dumps(header), bytes(15 * size) + number)
    forge(folder)
    refused(folder, rf"{STEM}B\.weight is not finite")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("name", ["adapter_config.json", WEIGHTS, "manifest.json", "signature.json", "more.json"])
@pytest.mark.parametrize("make", [pipe, link, Path.mkdir])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(folder, name: str, make: Callable[[Path], None]):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    refused(folder, "may not lie in an adapter")
    if name == "manifest.json":
        with pytest.raises(AdapterError, match=r"manifest\.json is damaged: it"):
            read_manifest(folder)


def test_a_hard_link_is_a_plain_file(folder, tmp_path):
    os.link(folder / WEIGHTS, tmp_path / "backup")
    assert check_sound(folder).rank == 2


@pytest.mark.parametrize("changes", [{"adapter_id": "../../shop"}, {"run_id": "../elsewhere"}, {"run_id": ""}])
def test_an_id_that_leads_elsewhere_is_refused(folder, changes):
    forge(folder, **changes)
    refused(folder, "is no plain name")


def test_a_file_that_is_named_twice_is_refused(folder):
    forge(folder, files=2 * list_files(folder))
    refused(folder, "names a file twice")


@pytest.mark.parametrize("text", ['"rank": 2, "rank": 2', '"alpha": NaN', '"alpha": 1e999'])
def test_a_manifest_that_two_readers_may_read_in_two_ways_is_refused(folder, text):
    path = folder / "manifest.json"
    key = text.split(":")[0]
    kept = [line for line in path.read_text().splitlines() if not line.strip().startswith(f"{key}:")]
    path.write_text("\n".join([kept[0], f"  {text},", *kept[1:]]))
    refused(folder, "twice|no number|no finite number")


def test_a_fused_tensor_has_the_factors_of_each_expert(folder):
    stem = "base_model.model.model.layers.0.mlp.experts"
    header = {
        f"{stem}.base_layer.lora_A.weight": {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, 128]},
        f"{stem}.base_layer.lora_B.weight": {"dtype": "F32", "shape": [4, 8], "data_offsets": [128, 256]},
    }
    save_weights(folder, header, 256)
    save_config(folder, rank=2, target_modules=[], target_parameters=["experts.down_proj"])
    forge(folder, targets=("experts.down_proj",))
    assert check_sound(folder).targets == ("experts.down_proj",)
    header[f"{stem}.base_layer.lora_A.weight"] = {"dtype": "F32", "shape": [7, 4], "data_offsets": [0, 112]}
    header[f"{stem}.base_layer.lora_B.weight"]["data_offsets"] = [112, 240]
    save_weights(folder, header, 240)
    forge(folder)
    refused(folder, "rank and targets")
