from collections import Counter
from pathlib import Path

import pytest

from data_pipelines.benchmark.body_suite import Mined
from data_pipelines.benchmark.commit_mining import MinedCommits
from data_pipelines.benchmark.told import commits_document, commits_text, mined_document, mined_text
from finetune.contracts.dataset import ReasonCount
from finetune.contracts.executed import ExecutedSuite


def mined(kind, labels, labels_of):
    suite = ExecutedSuite(
        digest="a" * 64,
        toolchains=(),
        num_tasks=3,
        left_out=(ReasonCount(stage="infrastructure", reason="no jail", count=2),),
        seconds=1.0,
        labels_of=labels_of,
    )
    told = {"suite": suite, "labels": Counter(labels), "kept_from_before": 1, "minutes": 1.0, "infrastructure": 2}
    if kind == "commit":
        return MinedCommits(**told, num_commits=9, num_candidates=5, judged=4)
    return Mined(**told, num_functions=9, screened=4, tested=3, screening_minutes=1.0)


@pytest.mark.parametrize(
    ("kind", "text", "document"), [("body", mined_text, mined_document), ("commit", commits_text, commits_document)]
)
def test_each_kind_tells_what_training_knew_and_what_could_not_be_tested(kind, text, document):
    labels = {"seen": 2, "evolving": 1}
    labelled = text(Path("suite"), mined(kind, labels, "d"))
    assert "What training on that dataset knew of them: 1 evolving, 2 seen." in labelled
    assert "2 could not be tested; the same command again tries them again." in labelled
    assert document(Path("suite"), mined(kind, labels, "d"))["labels"] == labels
    assert "Not labelled" in text(Path("suite"), mined(kind, {"not labelled": 3}, ""))
