"""Ask a running endpoint what an evaluation asked, to say whether what was judged is what is served."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetune.evaluate.report import Asked, Evaluation

MAX_ASKED = 50
# A row sums in another order alone than in a batch, and a greedy answer forks where two tokens are nearly as likely: of
# 50 answers of the embedded base 50 were the same, of an adapter's 47. Another adapter or precision changes most.
SAME_SHARE = 0.9


def as_served(evaluation: "Evaluation", url: str) -> "Evaluation":
    """The evaluation, its engine record completed by what the endpoint at url answers to the same prompts.

    Raises AdapterError when the adapter is not served there, when something else answers, or when nothing was asked
    that an endpoint could be asked; MachineError when there is no server.
    """
    from finetune.contracts.errors import AdapterError
    from finetune.terminal.progress import Progress
    from serving.client import call

    report, asked = evaluation.report, evaluation.asked[:MAX_ASKED]
    if not asked:
        raise AdapterError("No gap was filled, so the endpoint cannot be asked the same.", "Add --suite infill.")
    cards = call(url, "/v1/adapters", expects="available")["data"]
    card = next((card for card in cards if card["adapter_id"] == report.adapter_id), None)
    if card is None:
        raise AdapterError(
            f"{report.adapter_id} is not served at {url}.", f"Load it: finetune serve load NAME {report.adapter_id}"
        )
    if card["weights_digest"] != report.adapter_digest:
        raise AdapterError(f"What is served at {url} as {report.adapter_id} has other weights.", "Load it again.")
    with Progress("Asking the endpoint", 2 * len(asked)) as bar:
        same_base = _num_same(url, card["base"], asked, side="base", version=None, bar=bar)
        same = _num_same(url, card["name"], asked, side="adapter", version=report.adapter_id, bar=bar)
    served = min(same, same_base) >= SAME_SHARE * len(asked) and card["served_on"] == report.engine.quantization.value
    note = (
        f"The endpoint, base held as {card['served_on']}, was asked {len(asked)} of the gaps: {same_base} answers of "
        f"the base and {same} of the adapter were those that were judged."
    )
    engine = report.engine.model_copy(update={"served": served, "note": note})
    return replace(evaluation, report=report.model_copy(update={"engine": engine}))


def _num_same(url: str, model: str, asked: "Sequence[Asked]", *, side: str, version: str | None, bar: Any) -> int:
    """How many answers of a served model are those that were judged. version None: whatever the base calls itself."""
    from finetune.contracts.errors import AdapterError
    from serving.client import call

    same = 0
    for question in asked:
        body = {"model": model, "prompt": list(question.token_ids), "max_tokens": question.max_tokens, "temperature": 0}
        answer = call(url, "/v1/completions", expects="choices", body=body)
        if version is not None and answer["system_fingerprint"] != version:
            raise AdapterError(
                f"{model} at {url} was answered by {answer['system_fingerprint']} and not by {version}.",
                "Someone has changed what is served; evaluate again.",
            )
        same += answer["choices"][0]["text"] == getattr(question, side)
        bar.advance()
    return same
