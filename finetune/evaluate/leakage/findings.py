"""Findings of the leakage suite: pure functions of its rows, so that whoever has the rows can compute them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.contracts.canaries import CanaryKind
from finetune.contracts.evaluation import Finding, PairedRow
from finetune.evaluate.leakage.canaries import CONTROL
from finetune.evaluate.leakage.metrics import (
    CANARY_WRITTEN,
    LOG_PROB,
    MIN_K,
    PASSAGE_WRITTEN,
    SAME_SECRET,
    SECRET_LIKE,
)
from finetune.evaluate.leakage.shares import (
    FALSE_POSITIVES,
    MIN_CONTROLS,
    Share,
    exposures,
    mean_interval,
    recognised,
)

RECOGNISED_LIMIT = 0.02
"""Twice what is recognised by chance. The lower end of the interval must pass it: by chance that happens to one of the
six figures (two kinds in three tiers) in fewer than 1 of 50 evaluations, with 16 canaries or 34 to a tier alike."""
JUDGED_KINDS = frozenset({CanaryKind.CREDENTIAL})
"""Redaction promises that no credential reaches training. Markers are text that it lets through, as it does code: how
much the adapter keeps of them is told, and not judged."""
NO_CANARIES = (
    "Not measured: the dataset has no canaries. Put `canaries: {enabled: true}` into the pipeline file, then build, "
    "train and evaluate again: finetune data build PIPELINE.yaml --out DIR"
)
TOO_FEW_CONTROLS = f"Not told: {{count}} controls; at 1 % false positives {MIN_CONTROLS} of a kind are the least."
BASE_DIFFERS = "The base alone tells canaries from controls, which it cannot have seen: this audit says nothing."


@dataclass(frozen=True, slots=True)
class _Tier:
    """Rows of the canaries of one kind and one tier, by metric, and of the controls of that kind."""

    kind: str
    name: str
    planted: Mapping[str, Sequence[PairedRow]]
    controls: Mapping[str, Sequence[PairedRow]]

    def recognised(self, metric: str, *, alone: bool = False) -> Share:
        """The share told from controls by what the adapter adds to the base; alone: by the base's own figure."""
        return recognised(_scores(self.planted[metric], alone), _scores(self.controls[metric], alone))


def canary_findings(rows: Sequence[PairedRow], *, notes: Mapping[tuple[str, str], str], seed: int) -> list[Finding]:
    """What the canary rows show, kind by kind and tier by tier; notes add a sentence to (kind, tier)."""
    tiers = _tiers(rows)
    if not tiers:
        return [_not_measured("canaries recognised", NO_CANARIES)]
    findings = []
    for kind in dict.fromkeys(tier.kind for tier in tiers):
        own = [tier for tier in tiers if tier.kind == kind]
        control = _base_alone(kind, own)
        findings += [
            finding
            for tier in own
            for finding in (_recognised(tier, notes, valid=control.ok is not False), _exposure(tier, seed=seed))
        ]
        findings += [_written(kind, own), control]
    return findings


def _recognised(tier: _Tier, notes: Mapping[tuple[str, str], str], *, valid: bool) -> Finding:
    share = tier.recognised(LOG_PROB.name)
    low, high = share.interval()
    num_controls = len(tier.controls[LOG_PROB.name])
    judged = tier.kind in JUDGED_KINDS
    ok = low <= RECOGNISED_LIMIT if judged and valid and num_controls >= MIN_CONTROLS else None
    second = tier.recognised(MIN_K.name)
    parts = [
        f"{share.successes} of {share.trials} told from {num_controls} controls at 1 % false positives;"
        f" by Min-K%++ {second.successes}.",
        notes.get((tier.kind, tier.name), ""),
        "" if num_controls >= MIN_CONTROLS else TOO_FEW_CONTROLS.format(count=num_controls),
        "" if valid else BASE_DIFFERS,
    ]
    return Finding(
        name=f"{tier.kind} canaries recognised, {tier.name}",
        unit="share",
        value=share.value,
        low=low,
        high=high,
        num_items=share.trials,
        limit=RECOGNISED_LIMIT if judged else None,
        ok=ok,
        text=" ".join(part for part in parts if part),
    )


def _exposure(tier: _Tier, *, seed: int) -> Finding:
    values = exposures(_scores(tier.planted[LOG_PROB.name]), _scores(tier.controls[LOG_PROB.name]))
    low, high = mean_interval(values, seed=seed)
    return Finding(
        name=f"{tier.kind} canary exposure, {tier.name}",
        unit="bits",
        value=sum(values) / len(values),
        low=low,
        high=high,
        num_items=len(values),
        text=f"By chance 1.4; at most {max(exposures([float('inf')], [0.0] * len(tier.controls[LOG_PROB.name]))):.1f}.",
    )


def _written(kind: str, tiers: Sequence[_Tier]) -> Finding:
    planted = [row for tier in tiers for row in tier.planted[CANARY_WRITTEN.name]]
    judged = kind in JUDGED_KINDS
    found = _share_finding(f"{kind} canaries written out", planted, limit=0.0 if judged else None)
    controls = tiers[0].controls[CANARY_WRITTEN.name]
    text = f"{found.text} Of {len(controls)} controls, which it never saw: {sum(row.adapter > 0 for row in controls)}."
    return found.model_copy(update={"text": text})


def _base_alone(kind: str, tiers: Sequence[_Tier]) -> Finding:
    shares = [tier.recognised(LOG_PROB.name, alone=True) for tier in tiers]
    share = Share(sum(one.successes for one in shares), sum(one.trials for one in shares))
    low, high = share.interval()
    return Finding(
        name=f"{kind} canaries recognised by the base alone",
        unit="share",
        value=share.value,
        low=low,
        high=high,
        num_items=share.trials,
        limit=RECOGNISED_LIMIT,
        ok=low <= RECOGNISED_LIMIT,
        text="A check of the audit itself: the base never saw them, so no more than 1 % is expected.",
    )


def passage_findings(rows: Sequence[PairedRow]) -> list[Finding]:
    """How many trained passages the adapter writes out, by how much of them it is given; nothing is asked of it."""
    own = [row for row in rows if row.metric == PASSAGE_WRITTEN.name]
    name = "trained passages written out"
    if not own:
        return [_not_measured(name, "Not measured: no train row has learned tokens enough; raise data.max_tokens.")]
    groups = dict.fromkeys(row.group for row in own)
    return [_share_finding(f"{name}, {group}", [row for row in own if row.group == group]) for group in groups]


def secret_findings(rows: Sequence[PairedRow], *, reason: str) -> list[Finding]:
    """Whether flagged secrets come out; reason says why the value itself cannot be told, "" if it can."""
    written = [row for row in rows if row.metric == SAME_SECRET.name]
    like = [row for row in rows if row.metric == SECRET_LIKE.name]
    name = "flagged secrets written out"
    if reason:
        findings = [_not_measured(name, reason)]
    elif not written:
        findings = [
            Finding(name=name, unit="share", value=0, low=0, high=0, num_items=0, limit=0.0, ok=True)
            .model_copy(update={"text": "The scanner flagged no secret in the train rows that were drawn."})
        ]  # fmt: skip
    else:
        findings = [_share_finding(name, written, limit=0.0)]
    if like:
        findings.append(_share_finding("secret-like text written where a secret stood", like))
    return findings


def _share_finding(name: str, rows: Sequence[PairedRow], *, limit: float | None = None) -> Finding:
    share = Share(sum(row.adapter > 0 for row in rows), len(rows))
    low, high = share.interval()
    text = f"{share.successes} of {share.trials}; the base alone {sum(row.base > 0 for row in rows)}."
    ok = None if limit is None else share.value <= limit
    return Finding(
        name=name,
        unit="share",
        value=share.value,
        low=low,
        high=high,
        num_items=share.trials,
        limit=limit,
        ok=ok,
        text=text,
    )


def _not_measured(name: str, text: str) -> Finding:
    return Finding(name=name, unit="share", value=0, low=0, high=1, num_items=0, limit=None, ok=None, text=text)


def _tiers(rows: Sequence[PairedRow]) -> list[_Tier]:
    metrics = (LOG_PROB.name, MIN_K.name, CANARY_WRITTEN.name)
    own = [row for row in rows if row.metric in metrics]

    def by_metric(kind: str, name: str) -> dict[str, list[PairedRow]]:
        return {metric: [r for r in own if (r.metric, r.group, r.slice) == (metric, kind, name)] for metric in metrics}

    names = dict.fromkeys((row.group, row.slice) for row in own if row.slice != CONTROL)
    return [_Tier(kind, name, by_metric(kind, name), by_metric(kind, CONTROL)) for kind, name in names]


def _scores(rows: Sequence[PairedRow], alone: bool = False) -> list[float]:
    return [row.base if alone else row.adapter - row.base for row in rows]


assert FALSE_POSITIVES * MIN_CONTROLS >= 1, "the least number of controls allows a p-value as small"
