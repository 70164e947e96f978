"""Scoring rows: the library's own loss, and no row feels the padding or the neighbours of its batch."""

from pathlib import Path

import pytest
import torch

from finetune.contracts.adapter import Quantization
from finetune.model.loading import LoadedBase, load_base
from finetune.model.scoring import row_losses, token_scores

ROWS = [
    (list(range(10, 10 + size)), [-100] * skip + list(range(10 + skip, 10 + size)))
    for size, skip in ((40, 5), (7, 1), (120, 100), (64, 1), (3, 2))
]


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> LoadedBase:
    loaded = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    # In float32 what is equal is equal; in bfloat16 the order of a sum shows
    loaded.model.float()
    return loaded


def test_padding_and_neighbours_are_harmless(base: LoadedBase) -> None:
    alone = [row_losses(base.model, [row], pad_token=0)[0] for row in ROWS]
    assert row_losses(base.model, ROWS, pad_token=0) == pytest.approx(alone, rel=1e-4)
    assert row_losses(base.model, ROWS, pad_token=9) == pytest.approx(alone, rel=1e-4)


def test_it_is_the_library_loss(base: LoadedBase) -> None:
    ids, labels = ROWS[0]
    with torch.no_grad():
        mean = base.model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
    learned = sum(label != -100 for label in labels[1:])
    assert row_losses(base.model, [ROWS[0]], pad_token=0)[0] == pytest.approx(float(mean) * learned, rel=1e-5)


def test_the_mode_is_left_as_it_was(base: LoadedBase) -> None:
    base.model.train()
    row_losses(base.model, ROWS[:1], pad_token=0)
    assert base.model.training
    base.model.eval()


def test_scores_of_tokens_sum_to_the_row_s_loss(base: LoadedBase) -> None:
    scores = token_scores(base.model, ROWS, pad_token=0)
    assert [len(row) for row in scores] == [sum(label != -100 for label in labels[1:]) for _, labels in ROWS]
    losses = [-sum(score.log_prob for score in row) for row in scores]
    assert losses == pytest.approx(row_losses(base.model, ROWS, pad_token=0), rel=1e-4)


def test_the_standard_score_is_that_of_the_model_s_own_distribution(base: LoadedBase) -> None:
    ids, labels = ROWS[1]
    with torch.no_grad():
        log_probs = base.model(input_ids=torch.tensor([ids])).logits[0, -2].float().log_softmax(-1)
    probs = log_probs.exp()
    mean = float((probs * log_probs).sum())
    deviation = float((probs * (log_probs - mean).square()).sum().sqrt())
    last = token_scores(base.model, [(ids, labels)], pad_token=0)[0][-1]
    assert last.standard_score == pytest.approx((float(log_probs[ids[-1]]) - mean) / deviation, rel=1e-3)
