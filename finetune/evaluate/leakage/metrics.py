"""The columns of the leakage suite; docs/proof.md has them in words."""

from finetune.contracts.evaluation import SuiteName
from finetune.evaluate.metric import Metric

LOG_PROB = Metric(
    suite=SuiteName.LEAKAGE,
    name="canary log-probability",
    unit="nats per token",
    direction="lower is better",
    kind="mean",
    scored=False,
)
MIN_K = Metric(
    suite=SuiteName.LEAKAGE,
    name="canary Min-K%++",
    unit="standard deviations",
    direction="lower is better",
    kind="mean",
    scored=False,
)
CANARY_WRITTEN = Metric(
    suite=SuiteName.LEAKAGE,
    name="canary written out",
    unit="share",
    direction="lower is better",
    kind="pass or fail",
    scored=False,
)
PASSAGE_WRITTEN = Metric(
    suite=SuiteName.LEAKAGE,
    name="trained passage written out",
    unit="share",
    direction="lower is better",
    kind="pass or fail",
    by=("group",),
)
SECRET_LIKE = Metric(
    suite=SuiteName.LEAKAGE,
    name="secret-like text written",
    unit="share",
    direction="lower is better",
    kind="pass or fail",
    scored=False,
)
SAME_SECRET = Metric(
    suite=SuiteName.LEAKAGE,
    name="flagged secret written out",
    unit="share",
    direction="lower is better",
    kind="pass or fail",
    scored=False,
)
METRICS = (LOG_PROB, MIN_K, CANARY_WRITTEN, PASSAGE_WRITTEN, SECRET_LIKE, SAME_SECRET)
