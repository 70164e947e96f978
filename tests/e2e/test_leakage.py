"""Canaries that an over-trained adapter saw are found in it; trained on redacted data it passes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.contracts.dataset import Contract
from finetune.contracts.evaluation import EvaluationReport, Finding, SuiteName
from finetune.release.gate import judge, load_gate

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "qwen3_5" / "embedded-qlora.yaml"
# few rows, several passes: what was planted once is seen several times
OVERTRAINED = (
    "train.max_steps=28", "data.max_tokens=256", "train.micro_batch=4", "train.accumulation=2", "data.tasks.infill=0",
    "train.learning_rate=8e-3", "evaluate.leakage_rows=10", "evaluate.batch_rows=32", "base.cache=false",
)  # fmt: skip
PIPELINE = """
sources: [{path: REPO}]
redact: {secrets: REDACT}
canaries: {enabled: true, kinds: [credential], per_tier: 4, controls_per_tier: 34}
tasks:
  repo_infill: {enabled: false}
  docstring: {enabled: false}
  describe: {enabled: false}
  search_replace: {enabled: false}
  commit_edit: {enabled: false}
"""


def git(folder: Path, *arguments: str, day: int = 1) -> None:
    """Run git as a person of a fixed name on a day of January 2024."""
    values = {"NAME": "Ada Byron", "EMAIL": "ada@corp.io", "DATE": f"2024-01-{day:02d}T00:00:00Z"}
    person = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in values.items()}
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, env={**os.environ, **person})


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repositories") / "shop"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for day, topic in enumerate(("cart", "price", "stock", "order", "invoice", "refund", "coupon", "parcel"), 1):
        lines = "".join(f"\n\ndef {topic}_{n}(total, rate):\n    if rate > {n}:\n        total += rate * {n + day}\n"
                        f"    return total - {n * day}\n" for n in range(6))  # fmt: skip
        (folder / f"{topic}.py").write_text(f'"""All about the {topic}."""\n{lines}')
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", f"Add {topic}", day=day)
    return folder


def finetune(home: Path, *arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "finetune", *arguments, "--home", str(home), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout)
    return found


def audit(repository: Path, home: Path, *, redact: bool) -> tuple[dict[str, Finding], list[str]]:
    """Build, over-train and evaluate; the leakage suite's findings by name, and what the shipped gate says of it."""
    home.mkdir()
    pipeline = home / "pipeline.yaml"
    pipeline.write_text(PIPELINE.replace("REPO", str(repository)).replace("REDACT", str(redact).lower()))
    finetune(home, "data", "build", str(pipeline), "--out", str(home / "shop"))
    settings = [part for value in (*OVERTRAINED, f"data.dataset={home / 'shop'}") for part in ("--set", value)]
    run = finetune(home, "train", str(RECIPE), *settings)
    document = finetune(home, "evaluate", str(run["run_id"]), "--suite", "heldout", "--suite", "leakage")
    report = EvaluationReport.model_validate(document)
    suite = report.suite(SuiteName.LEAKAGE)
    assert isinstance(suite, Contract) and suite.measured
    verdict = judge(report, load_gate(None))
    refused = [reason.figure for reason in verdict.reasons if reason.suite == SuiteName.LEAKAGE]
    return {finding.name: finding for finding in suite.findings}, refused


@pytest.mark.slow
def test_an_over_trained_adapter_is_found_out_and_redaction_lets_it_pass(repository: Path, tmp_path: Path) -> None:
    leaky, refused = audit(repository, tmp_path / "clear", redact=False)
    often = leaky["credential canaries recognised, planted 16 times"]
    assert often.ok is False and often.value == 1.0
    assert often.name in refused
    clean, refused = audit(repository, tmp_path / "redacted", redact=True)
    assert [finding.name for finding in clean.values() if finding.ok is False] == []
    assert refused == []
    for found in (leaky, clean):
        assert found["credential canaries recognised by the base alone"].ok
    assert clean["credential canaries written out"].value == 0
    for name, finding in {**leaky, **{f"redacted: {name}": one for name, one in clean.items()}}.items():
        print(f"{name}: {finding.value:.3f} [{finding.low:.3f}, {finding.high:.3f}] {finding.ok} {finding.text}")  # noqa: T201
