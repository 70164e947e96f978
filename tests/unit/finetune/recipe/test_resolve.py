"""A recipe resolves from its file, the flags, the family and the defaults, and says which gave what."""

import json
from pathlib import Path

import pytest

from finetune.contracts.dataset import Task
from finetune.contracts.errors import BaseModelError, RecipeError, UsageError
from finetune.recipe.load import load_recipe
from finetune.recipe.resolve import resolve


@pytest.fixture
def base(tmp_path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_5_text"}))
    return folder


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_each_value_knows_its_origin(tmp_path, base):
    path = write(tmp_path, f"name: x\nbase: {{path: {base}}}\nlora: {{rank: 4}}\n")
    resolved = resolve(load_recipe(path, ["train.seed=7"]))
    origin = {row.key: (json.loads(row.value), row.origin.value) for row in resolved.origins}
    assert origin["lora.rank"] == (4, "file")
    assert origin["train.seed"] == (7, "flag")
    assert origin["base.keep_16bit"] == (["lm_head", "in_proj_a", "in_proj_b"], "family")
    assert origin["lora.targets"][1] == "family"
    assert origin["train.epochs"] == (1.0, "default")
    assert resolved.track.adapter_name == "x"


def test_the_digest_is_of_the_values_not_of_who_gave_them(tmp_path, base):
    one = resolve(load_recipe(write(tmp_path, f"name: x\nbase: {{path: {base}}}\n"), ["lora.rank=16"]))
    two = resolve(load_recipe(write(tmp_path, f"name: x\nbase: {{path: {base}}}\n")))
    three = resolve(load_recipe(write(tmp_path, f"name: x\nbase: {{path: {base}}}\nlora: {{rank: 17}}\n")))
    assert one.digest() == two.digest() != three.digest()


def test_a_preset_is_resolved_and_an_unknown_one_gets_the_nearest(tmp_path, base):
    path = write(tmp_path, f"name: x\nbase: {{path: {base}}}\nlora: {{targets: attention}}\n")
    assert resolve(load_recipe(path)).lora.targets == ("q_proj", "k_proj", "v_proj", "o_proj")
    with pytest.raises(RecipeError) as caught:
        resolve(load_recipe(path, ["lora.targets=atention"]))
    assert "did you mean attention?" in caught.value.problems[0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config.json is missing"),
        ("{", "is damaged"),
        ("{}", "names no model_type"),
        ('{"model_type": "bert"}', "'bert' is not supp"),
    ],
)
def test_a_base_that_is_none_is_told(tmp_path, config, message):
    folder = tmp_path / "other"
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(config)
    with pytest.raises(BaseModelError, match=message):
        resolve(load_recipe(write(tmp_path, f"name: x\nbase: {{path: {folder}}}\n")))


@pytest.mark.parametrize("text", ["lora.rank", "=3", "lora.rnak=3", "nothing=1"])
def test_a_bad_override_is_a_usage_error(tmp_path, base, text):
    with pytest.raises(UsageError):
        load_recipe(write(tmp_path, f"name: x\nbase: {{path: {base}}}\n"), [text])


@pytest.mark.parametrize("value", ['"a\\0b"', '"a\\ud800b"', '["a\\0b"]', '{a: "\\0"}'])
def test_a_value_of_a_flag_that_no_path_can_have_is_told_as_in_a_file(tmp_path: Path, base: Path, value: str) -> None:
    path = write(tmp_path, f"name: x\nbase: {{path: {base}}}\n")
    with pytest.raises(UsageError, match="NUL and halves of surrogate pairs"):
        load_recipe(path, [f"base.path={value}"])


def test_a_recipe_with_nothing_to_learn_is_refused(tmp_path, base):
    zero = f"data: {{tasks: {{{', '.join(f'{task}: 0' for task in Task)}}}}}"
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, f"name: x\nbase: {{path: {base}}}\n{zero}\n"))
    assert "nothing to learn from" in caught.value.problems[0]


def test_a_config_file_means_its_folder(tmp_path, base):
    path = write(tmp_path, f"name: x\nbase: {{path: {base / 'config.json'}}}\n")
    assert resolve(load_recipe(path)).base.path == str(base)


def test_offload_without_checkpoints_is_refused(tmp_path, base):
    path = write(tmp_path, f"name: x\nbase: {{path: {base}}}\ntrain: {{activation_offload: true}}\n")
    assert resolve(load_recipe(path)).train.activation_offload
    with pytest.raises(RecipeError, match="1 mistake") as caught:
        load_recipe(path, ["train.activation_checkpointing=false"])
    assert "activation_offload keeps what activation_checkpointing saves" in caught.value.problems[0]


def test_passes_that_do_not_divide_name_the_values_that_would(tmp_path, base):
    path = write(tmp_path, f"name: x\nbase: {{path: {base}}}\ntrain: {{accumulation: 16, num_processes: 3}}\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    (problem,) = caught.value.problems
    assert "set accumulation to 15 or 18, or num_processes to one of 1, 2, 4, 8, 16" in problem
    path = write(tmp_path, f"name: x\nbase: {{path: {base}}}\ntrain: {{accumulation: 2, num_processes: 3}}\n")
    with pytest.raises(RecipeError, match="set accumulation to 3, or num_processes to one of 1, 2"):
        load_recipe(path)
    assert load_recipe(path, ["train.accumulation=6"]).recipe.train.num_processes == 3


@pytest.mark.parametrize(
    ("quantization", "num_processes", "reason"),
    [("nf4", 2, "bitsandbytes issue 1945"), ("none", 1, "num_processes is 1")],
)
def test_sharding_is_refused_with_the_reason(tmp_path, base, quantization, num_processes, reason):
    text = (
        f"name: x\nbase: {{path: {base}, quantization: {quantization}}}\n"
        f"train: {{sharding: fsdp2, num_processes: {num_processes}}}\n"
    )
    with pytest.raises(RecipeError, match=reason):
        load_recipe(write(tmp_path, text))


def test_a_16_bit_base_may_be_sharded(tmp_path, base):
    text = f"name: x\nbase: {{path: {base}, quantization: none}}\ntrain: {{sharding: fsdp2, num_processes: 2}}\n"
    assert load_recipe(write(tmp_path, text)).recipe.train.sharding == "fsdp2"
