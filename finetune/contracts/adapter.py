"""AdapterManifest: what an adapter is, what it was made on, and how one knows that the files are that adapter."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pydantic import Field

from finetune.contracts.dataset import Contract

ADAPTER_MANIFEST_NAME = "manifest.json"
ADAPTER_WEIGHTS_NAME = "adapter_model.safetensors"
ADAPTER_CONFIG_NAME = "adapter_config.json"
# the place of a signature over the manifest, which names the digests of the other files; it need not be there
ADAPTER_SIGNATURE_NAME = "signature.json"


class Quantization(StrEnum):
    """How the frozen base is held: nf4 is 4-bit NormalFloat with double quantization, none is 16-bit."""

    NF4 = "nf4"
    NONE = "none"


class AdapterKeys(StrEnum):
    """Which class the adapter's tensors are named for: the text model, or the multimodal model that holds it."""

    TEXT = "text"
    MULTIMODAL = "multimodal"


class FileDigest(Contract):
    """A file of the adapter folder."""

    name: str
    bytes: int = Field(ge=0)
    sha256: str


class BaseIdentity(Contract):
    """The base model an adapter belongs to. digest covers config and weights; name is for people only."""

    name: str
    digest: str
    model_type: str
    num_hidden_layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)


class FamilyFacts(Contract):
    """What serving must know of the family: token names, resolved and checked against the tokenizer at export."""

    family: str
    fim_prefix: str | None
    fim_suffix: str | None
    fim_middle: str | None
    infill_stops: tuple[str, ...]
    chat_stops: tuple[str, ...]
    thinking: bool


class ReferenceProbe(Contract):
    """Greedy check after loading: log-probabilities of continuation tokens under base and adapter.

    token_ids is the prompt; continuation_ids the tokens scored; the two lists hold one natural log-probability each.
    """

    token_ids: tuple[int, ...]
    continuation_ids: tuple[int, ...]
    base_log_probs: tuple[float, ...]
    adapter_log_probs: tuple[float, ...]


class Score(Contract):
    """One figure of the evaluation: base, adapter, and the paired difference adapter - base with its 95 % interval.

    p_value is that of no difference at all, adjusted_p_value that of Holm among all secondary figures, parts among
    themselves; None where none was computed. margin None asks for better; else for worse by no more than margin, and
    the verdict may be "no worse". num_needed is the number of tasks at which a difference as large as this would be
    shown 4 times in 5, None where it was shown or is 0, or where no number would do. clusters says what num_clusters
    counts: what was drawn as a whole. part is the group, language or repository that the figure is of, "" for all, and
    by says which of them: the column of PairedRow that holds it. direction says which way is good, None in scores from
    before it was written.
    """

    name: str
    unit: str
    base: float
    adapter: float
    difference: float
    low: float
    high: float
    num_items: int = Field(ge=0)
    num_clusters: int = Field(ge=0)
    verdict: Literal["better", "no worse", "not shown", "worse"]
    p_value: float | None = None
    adjusted_p_value: float | None = None
    margin: float | None = None
    num_needed: int | None = None
    clusters: Literal["files", "repositories"] = "files"
    part: str = ""
    by: Literal["", "language", "group", "slice", "repo"] = ""
    direction: Literal["lower is better", "higher is better"] | None = None


def whole_scores(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Scores over all tasks. Those of parts have the same names: a table without a column for parts leaves them out."""
    return tuple(score for score in scores if not score.part)


class AdapterDigests(Contract):
    """SHA-256 of what the adapter depends on; dataset is the manifest's content digest."""

    weights: str
    chat_template: str
    tokenizer: str
    dataset: str
    recipe: str


class AdapterManifest(Contract):
    """Everything that loading, serving and releasing an adapter need to know without asking the run.

    adapter_id is <name>-<first 12 digits of the weights digest>; targets are module suffixes that carry an adapter and
    layer_kinds the kinds of layer they lie in; files covers each file of the folder but the manifest and its signature.
    step is that of training whose weights these are, None in adapters from before it was written.
    """

    schema_version: Literal[1] = 1
    adapter_id: str
    run_id: str
    step: int | None = Field(default=None, ge=0)
    created_at: int
    base: BaseIdentity
    family: FamilyFacts
    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    targets: tuple[str, ...]
    layer_kinds: tuple[str, ...]
    quantization: Quantization
    digests: AdapterDigests
    probe: ReferenceProbe
    files: tuple[FileDigest, ...]
    scores: tuple[Score, ...] = ()
    visibility: tuple[str, ...] = ()
    keys: AdapterKeys = AdapterKeys.TEXT
    seal: str = ""
