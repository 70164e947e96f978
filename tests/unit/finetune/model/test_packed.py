"""Packed rows on a loaded hybrid base: equal to separate ones, and a leak of any kind is seen."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.families.qwen3_5 import QWEN3_5
from finetune.families.tokens import Unsupported
from finetune.model import packed
from finetune.model.loading import load_base
from finetune.model.lora import attach
from finetune.model.packed import PackingProof, packed_inputs, packing_problem, proof_rows, prove_packing
from finetune.recipe.resolve import ResolvedLora

LORA = ResolvedLora(
    rank=4, alpha=8.0, dropout=0.0, rank_stabilized=False, targets=QWEN3_5.targets["attention+mlp+linear_attention"]
)
TOKENS = [(7 * place + place // 5) % 250 for place in range(400)]
ROWS = [(TOKENS, TOKENS)]


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Any:
    return attach(load_base(tiny_base, quantization=Quantization.NF4, device="cpu"), LORA)


def test_the_tensors_keep_rows_apart() -> None:
    found = packed_inputs([([5, 6, 7], [-100, 6, 7]), ([8, 9], [8, 9])])
    assert found["input_ids"].tolist() == [[5, 6, 7, 8, 9]]
    assert found["labels"].tolist() == [[-100, 6, 7, -100, 9]]
    assert found["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert found["seq_idx"].tolist() == [[0, 0, 0, 1, 1]]
    assert found["cu_seq_lens_q"].tolist() == [0, 3, 5]
    assert (found["max_length_q"], found["max_length_k"]) == (3, 3)


def test_rows_of_the_proof_are_made_of_what_there_is() -> None:
    rows = proof_rows([([1, 2, 3], [1, 2, 3])])
    assert [len(ids) for ids, _ in rows] == [45, 70, 101]
    assert rows[0][0][:4] == [1, 2, 3, 1]


def test_packed_equals_separate(model: Any) -> None:
    proof = prove_packing(model, proof_rows(ROWS))
    assert proof.problem == ""
    assert 0 < proof.gradients < 0.015
    assert proof.moved_logits == proof.moved_gradients == 0
    assert all(part.grad is None for part in model.parameters())
    assert packing_problem(model, QWEN3_5, ROWS) == ""


@pytest.mark.parametrize("missing", ["seq_idx", "cu_seq_lens_q", "position_ids"])
def test_each_kind_of_leak_is_seen(model: Any, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def leaky(rows: Any, *, device: Any = "cpu") -> dict[str, Any]:
        return {name: value for name, value in packed_inputs(rows, device=device).items() if name != missing}

    monkeypatch.setattr(packed, "packed_inputs", leaky)
    assert "packed row" in packing_problem(model, QWEN3_5, ROWS)


def test_a_family_may_say_no(model: Any) -> None:
    family = replace(QWEN3_5, packing=Unsupported("its kernels cannot"))
    assert packing_problem(model, family, ROWS) == "its kernels cannot"


def test_the_model_is_left_as_it_was(model: Any) -> None:
    before = {name: part.detach().clone() for name, part in model.named_parameters()}
    was_training = model.training
    prove_packing(model, proof_rows(ROWS))
    assert model.training is was_training
    assert all(torch.equal(part, before[name]) for name, part in model.named_parameters())


@pytest.mark.parametrize(
    ("found", "words"),
    [
        # 64 layers of random weights on an H100
        ({"logits": 0.048, "gradients": 0.071, "rounding_logits": 0.044, "rounding_gradients": 0.066}, ""),
        ({"logits": 0.048, "rounding_logits": 0.01}, "4.8% (logits)"),
        ({"gradients": 0.071, "rounding_gradients": 0.01}, "7.1% (gradients)"),
        ({"rounding_logits": 0.5, "moved_logits": 0.001}, "depends on the row before it"),
    ],
)
def test_what_rounding_explains_is_allowed_and_a_row_that_moves_never(found: dict[str, float], words: str) -> None:
    none = dict.fromkeys((field.name for field in fields(PackingProof)), 0.0)
    problem = PackingProof(**{**none, **found}).problem
    assert words in problem
    assert bool(problem) is bool(words)
