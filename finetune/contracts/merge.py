"""MergeManifest: what a merged model was made of, which of its two forms was kept and why, and what its files are."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from finetune.contracts.adapter import BaseIdentity, FileDigest
from finetune.contracts.dataset import Contract

MERGE_MANIFEST_NAME = "merge.json"


class MergeForm(StrEnum):
    """What the adapter is added to: the base's own 16-bit weights, or what its 4-bit weights stand for.

    The second is the base that training saw, in 16 bits.
    """

    W16 = "w16"
    NF4 = "nf4"

    @property
    def words(self) -> str:
        """As a person reads it."""
        return "the 16-bit weights" if self is MergeForm.W16 else "what the 4-bit weights stand for"


class MergeCheck(Contract):
    """The reference text, scored by the files that were written.

    expected are the log-probabilities of the adapter over the base of this form: the trainer's own, or, for the 16-bit
    weights under an adapter that was trained over 4-bit ones, those of the adapter attached to them. Each may differ by
    tolerance nats; effect is how far the adapter moves them.
    """

    token_ids: tuple[int, ...]
    continuation_ids: tuple[int, ...]
    expected: tuple[float, ...]
    found: tuple[float, ...]
    tolerance: float = Field(gt=0)
    effect: float = Field(ge=0)

    @property
    def is_weak(self) -> bool:
        """Whether the adapter moves the text too little for the comparison to tell it from its base."""
        return self.effect < 2 * self.tolerance

    @property
    def worst(self) -> float:
        """The largest difference, in nats."""
        return max(abs(a - b) for a, b in zip(self.expected, self.found, strict=True))


class MergeCandidate(Contract):
    """One form, written and read back.

    bits_per_byte is of the held-out sample, None: not measured. check None: this machine had no room to load it.
    """

    form: MergeForm
    bits_per_byte: float | None
    check: MergeCheck | None


class HeldoutSample(Contract):
    """What the forms were compared on: dataset is its content digest."""

    dataset: str
    num_rows: int = Field(ge=1)
    num_bytes: int = Field(ge=1)


class MergeManifest(Contract):
    """Beside the weights of a merged model.

    adapter_weights is the digest of the adapter's weights file. num_changed and num_kept count tensors of the
    checkpoint; the latter are byte for byte the base's. left_out are files of the base's folder that were not taken
    along: other forms of the unmerged weights, and folders. sample None: the choice was not measured. visibility is the
    adapter's: the merged model shows as much of the repositories.
    """

    schema_version: Literal[1] = 1
    adapter_id: str
    adapter_weights: str
    base: BaseIdentity
    created_at: int
    kept: MergeForm
    reason: str
    candidates: tuple[MergeCandidate, ...] = Field(min_length=1)
    sample: HeldoutSample | None
    num_changed: int = Field(ge=1)
    num_kept: int = Field(ge=0)
    left_out: tuple[str, ...]
    visibility: tuple[str, ...] = ()
    files: tuple[FileDigest, ...]
    seal: str = ""

    @property
    def chosen(self) -> MergeCandidate:
        """The candidate that was kept."""
        return next(candidate for candidate in self.candidates if candidate.form is self.kept)
