"""Scores from rows: order, parts, clusters, repeatability, and that a null is not called anything."""

from collections import Counter

import numpy as np
import pytest

from finetune.contracts.evaluation import PairedRow, SuiteName
from finetune.evaluate.metric import Metric
from finetune.evaluate.scores import scores_of

BITS = Metric(
    SuiteName.HELDOUT, "bits per byte", "", "lower is better", "ratio", primary=True, by=("language", "group", "repo")
)
EXACT = Metric(SuiteName.INFILL, "infill exact match", "share", "higher is better", "pass or fail")
NEAR = Metric(SuiteName.INFILL, "infill edit similarity", "0 to 1", "higher is better", "mean")
METRICS = (EXACT, BITS, NEAR)


def rows_of(
    generator: np.random.Generator, *, shift: float, num_files: int = 40, num_repos: int = 2
) -> list[PairedRow]:
    """Three tasks a file; both models stray from what a file and a task are worth, and the adapter gains shift."""
    rows = []
    for place in range(40 * 3):
        file = place // 3
        where = {
            "task_id": f"t{place}", "repo": f"r{file % num_repos}", "path": f"f{file}.py",
            "language": ("go", "python")[file % 2], "group": ("novel", "evolving")[place % 2],
        }  # fmt: skip
        worth = generator.normal()
        size = float(generator.integers(20, 200))
        left, right = worth + 0.5 * generator.normal(), worth + 0.5 * generator.normal()
        for metric, base, adapter, of in (
            (BITS, size * (3 + left), size * (3 + right - shift), size),
            (EXACT, float(left > 0.8), float(right + shift > 0.8), 1.0),
            (NEAR, left, right + shift, 1.0),
        ):
            rows.append(PairedRow(suite=metric.suite, metric=metric.name, base=base, adapter=adapter, size=of, **where))
    return rows


def test_the_primary_score_is_first_then_the_others_then_parts() -> None:
    scores = scores_of(rows_of(np.random.default_rng(0), shift=0.3), METRICS, resamples=200, seed=0)
    assert [(score.name, score.part) for score in scores] == [
        ("bits per byte", ""), ("infill exact match", ""), ("infill edit similarity", ""),
        ("bits per byte", "go"), ("bits per byte", "python"),
        ("bits per byte", "evolving"), ("bits per byte", "novel"),
        ("bits per byte", "r0"), ("bits per byte", "r1"),
    ]  # fmt: skip
    assert scores[0].adjusted_p_value is None
    assert all(score.adjusted_p_value >= score.p_value for score in scores[1:])
    assert sum(score.num_items for score in scores[3:5]) == scores[0].num_items == 120


def test_the_same_rows_in_any_order_give_the_same_scores_bit_for_bit() -> None:
    rows = rows_of(np.random.default_rng(0), shift=0.1)
    first = scores_of(rows, METRICS, resamples=200, seed=5)
    shuffled = [rows[place] for place in np.random.default_rng(1).permutation(len(rows))]
    assert scores_of(shuffled, METRICS, resamples=200, seed=5) == first
    assert scores_of(rows, METRICS, resamples=200, seed=6) != first


@pytest.mark.parametrize(("num_repos", "clusters", "num_clusters"), [(5, "files", 40), (6, "repositories", 6)])
def test_repositories_are_drawn_once_there_are_six(num_repos: int, clusters: str, num_clusters: int) -> None:
    rows = rows_of(np.random.default_rng(0), shift=0.3, num_repos=num_repos)
    score = scores_of(rows, [BITS], resamples=200, seed=0)[0]
    assert (score.clusters, score.num_clusters) == (clusters, num_clusters)


def test_near_duplicate_files_are_one_cluster() -> None:
    rows = [row.model_copy(update={"cluster": f"c{int(row.path[1:-3]) // 4}"}) for row in rows_of(
        np.random.default_rng(0), shift=0.3, num_repos=1)]  # fmt: skip
    assert scores_of(rows, [NEAR], resamples=200, seed=0)[0].num_clusters == 10


def test_a_metric_without_rows_or_sizes_has_no_score() -> None:
    rows = [row for row in rows_of(np.random.default_rng(0), shift=0.3) if row.metric != NEAR.name]
    empty = [row.model_copy(update={"size": 0.0}) if row.metric == BITS.name else row for row in rows]
    assert [score.name for score in scores_of(empty, METRICS, resamples=200, seed=0)] == ["infill exact match"]


def test_equal_names_of_a_language_and_a_repository_are_told_apart() -> None:
    rows = [row.model_copy(update={"repo": "go" if row.repo == "r0" else "tool"}) for row in rows_of(
        np.random.default_rng(0), shift=0.3)]  # fmt: skip
    names = [score.part for score in scores_of(rows, [BITS], resamples=200, seed=0)]
    assert names == ["", "go", "python", "evolving", "novel", "go (repo)", "tool"]


def test_parts_do_not_cost_the_other_figures_their_verdict() -> None:
    rows = rows_of(np.random.default_rng(0), shift=0.2)
    without = scores_of(rows, [BITS, EXACT, NEAR], resamples=200, seed=0)[1:3]
    plain = Metric(BITS.suite, BITS.name, "", BITS.direction, BITS.kind, primary=True)
    assert scores_of(rows, [plain, EXACT, NEAR], resamples=200, seed=0)[1:3] == without


def test_a_planted_improvement_is_found_and_turned_round_is_worse() -> None:
    for shift, word in ((0.5, "better"), (-0.5, "worse")):
        scores = scores_of(rows_of(np.random.default_rng(4), shift=shift), METRICS, resamples=400, seed=0)
        assert [score.verdict for score in scores[:3]] == [word] * 3
        assert all(score.num_needed is None for score in scores[:3])


def test_a_base_against_itself_is_not_shown() -> None:
    """Whatever the rows: the same model twice has the same figures."""
    rows = [row.model_copy(update={"adapter": row.base}) for row in rows_of(np.random.default_rng(0), shift=0.4)]
    scores = scores_of(rows, METRICS, resamples=200, seed=0)
    assert {(score.verdict, score.difference, score.p_value) for score in scores} == {("not shown", 0.0, 1.0)}


def test_two_models_that_differ_by_chance_alone_are_not_shown() -> None:
    """Each kind of metric says nothing in at least 95 of 100 seeded repeats."""
    said: Counter[str] = Counter()
    for repeat in range(300):
        rows = rows_of(np.random.default_rng(repeat), shift=0.0)
        for metric in METRICS:
            said[metric.name] += scores_of(rows, [metric], resamples=300, seed=0)[0].verdict == "not shown"
    assert min(said.values()) >= 0.95 * 300, said
