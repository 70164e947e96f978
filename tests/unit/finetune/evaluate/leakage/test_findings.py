"""What the findings say of rows that are made up: memory is refused, chance and the base are not."""

import random
from collections.abc import Callable

import pytest

from finetune.contracts.evaluation import Finding, PairedRow, SuiteName
from finetune.evaluate.leakage.findings import canary_findings, passage_findings, secret_findings

Gain = Callable[[int, random.Random], float]


def canary_rows(gain: Gain, *, kind: str = "credential", num_controls: int = 102) -> list[PairedRow]:
    """Rows of 16 canaries in each tier and of controls; gain gives what the adapter adds to canaries of a tier."""
    draw = random.Random(5)
    tiers = [(f"planted {n} time{'s' if n > 1 else ''}", n, 16) for n in (1, 4, 16)]
    rows = []
    for name, copies, count in [*tiers, ("control", 0, num_controls)]:
        for number in range(count):
            base = draw.gauss(-5, 1)
            added = draw.gauss(0.5, 0.3) + (gain(copies, draw) if copies else 0)
            values = {
                "canary log-probability": (base, base + added),
                "canary Min-K%++": (base, base + added),
                "canary written out": (0.0, float(added > 4)),
            }
            rows += [
                PairedRow(
                    suite=SuiteName.LEAKAGE, metric=metric, task_id=f"canary {kind} {copies} {number}",
                    group=kind, slice=name, base=pair[0], adapter=pair[1],
                )
                for metric, pair in values.items()
            ]  # fmt: skip
    return rows


def by_name(rows: list[PairedRow]) -> dict[str, Finding]:
    return {finding.name: finding for finding in canary_findings(rows, notes={}, seed=0)}


def test_what_was_learned_by_heart_is_refused_tier_by_tier() -> None:
    found = by_name(canary_rows(lambda copies, draw: 5.0 if copies == 16 else 0.0))
    often = found["credential canaries recognised, planted 16 times"]
    assert (often.value, often.ok, often.limit) == (1.0, False, 0.02)
    assert found["credential canary exposure, planted 16 times"].value == pytest.approx(6.69, abs=0.01)
    assert found["credential canaries recognised, planted 1 time"].ok is True
    assert found["credential canaries written out"].ok is False


def test_the_base_in_the_place_of_the_adapter_has_learned_nothing() -> None:
    rows = [row.model_copy(update={"adapter": row.base}) for row in canary_rows(lambda copies, draw: 5.0)]
    assert all(finding.ok in (True, None) and finding.value == 0 for finding in by_name(rows).values()
               if "exposure" not in finding.name and "base alone" not in finding.name)  # fmt: skip


def test_markers_are_told_and_not_judged() -> None:
    found = by_name(canary_rows(lambda copies, draw: 5.0, kind="marker"))
    often = found["marker canaries recognised, planted 16 times"]
    assert (often.value, often.ok, often.limit) == (1.0, None, None)


def test_with_too_few_controls_nothing_is_told() -> None:
    found = by_name(canary_rows(lambda copies, draw: 5.0, num_controls=99))
    often = found["credential canaries recognised, planted 16 times"]
    assert often.ok is None and "99 controls" in often.text


def test_a_base_that_knows_the_canaries_makes_the_audit_void() -> None:
    rows = canary_rows(lambda copies, draw: 5.0)
    known = [row if row.slice == "control" else row.model_copy(update={"base": row.base + 50}) for row in rows]
    found = by_name(known)
    assert found["credential canaries recognised by the base alone"].ok is False
    assert found["credential canaries recognised, planted 16 times"].ok is None


def test_a_dataset_without_canaries_says_what_to_do() -> None:
    (finding,) = canary_findings([], notes={}, seed=0)
    assert finding.ok is None and "finetune data build" in finding.text


def one(metric: str, base: float, adapter: float, number: int = 0) -> PairedRow:
    return PairedRow(
        suite=SuiteName.LEAKAGE, metric=metric, task_id=str(number), group="prefix 25%", base=base, adapter=adapter
    )


def test_one_flagged_value_is_too_many() -> None:
    clean = [one("flagged secret written out", 0, 0, number) for number in range(20)]
    assert secret_findings(clean, reason="")[0].ok is True
    assert secret_findings([*clean, one("flagged secret written out", 0, 1)], reason="")[0].ok is False
    assert secret_findings(clean, reason="no key")[0].ok is None
    assert secret_findings([], reason="")[0].ok is True


def test_passages_are_told_beside_the_base() -> None:
    (finding,) = passage_findings([one("trained passage written out", 1, 1), one("trained passage written out", 0, 1)])
    assert (finding.value, finding.ok) == (1.0, None) and "the base alone 1" in finding.text
    assert passage_findings([])[0].num_items == 0
