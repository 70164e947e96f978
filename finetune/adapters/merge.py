"""Merge an adapter into its base: a whole model for engines that load no adapters, in the layout of the base's files.

Both valid sums are made where a held-out sample can choose between them: the 16-bit weights with the adapter, and what
the 4-bit weights stand for with the adapter, which is the function that was trained. PEFT's own merge quantises the sum
again, which loses most of a small adapter (peft issue 2321), and saving a loaded model loses what the text class leaves
on the disk. So the original files are streamed, one tensor in memory at a time.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from finetune.adapters.merge_check import Judge, expected_scores, read_back
from finetune.adapters.merged_weights import MergedWeights
from finetune.adapters.model_files import ModelFiles, model_files
from finetune.adapters.places import find_places
from finetune.adapters.tensor_files import rewrite, stored_tensors
from finetune.adapters.verify import verify_adapter
from finetune.contracts.adapter import AdapterManifest, BaseIdentity, Quantization
from finetune.contracts.adapter_files import check_base, list_files
from finetune.contracts.errors import MachineError, UsageError
from finetune.contracts.io import digest_file, digest_text, disk_errors, new_folder, write_json
from finetune.contracts.merge import MERGE_MANIFEST_NAME, MergeCandidate, MergeForm, MergeManifest
from finetune.contracts.seal import sealed
from finetune.families.registry import family_for
from finetune.model.factors import read_factors
from finetune.model.identity import TOKENIZER_NAME, read_identity
from finetune.model.loading import load_tokenizer
from finetune.model.quiet import quiet_libraries
from finetune.model.room import device_with_room, gpu_or_cpu
from finetune.model.shape import meta_model
from finetune.terminal.output import note
from finetune.terminal.progress import Progress

SPARE_BYTES = 64 << 20


def merge_adapter(folder: Path, base: Path, *, out: Path, judge: Judge | None = None) -> MergeManifest:
    """Write the base in the folder base with the adapter in folder added to the new folder out, whole or not at all.

    judge None: the 16-bit weights are taken, and the manifest says that the choice was not measured. Each form is read
    back from its files and must score the adapter's reference text within MergeCheck.tolerance; without memory for
    that, the manifest says that it was not. Raises AdapterError for an adapter that is damaged, of another base or not
    merged as it should be, BaseModelError for files that cannot be merged into, UsageError for an out that holds
    something, MachineError for a lack of disk or, with a judge, of memory.
    """
    _check_out(out)
    merge = _prepare(folder, base)
    forms = (MergeForm.W16,) if judge is None or merge.is_plain else (MergeForm.W16, MergeForm.NF4)
    device = _device_to_check(merge.files, judge)
    _check_disk(out, len(forms) * merge.files.num_bytes + SPARE_BYTES)
    with new_folder(out) as scratch:
        found = {form: merge.candidate(scratch / form.value, form, device=device, judge=judge) for form in forms}
        kept = min(forms, key=lambda form: found[form].bits_per_byte or 0.0)
        _keep(scratch, kept)
        merged = sealed(merge.manifest(scratch, tuple(found.values()), kept=kept, judge=judge))
        write_json(scratch / MERGE_MANIFEST_NAME, merged)
    return merged


@dataclass(frozen=True)
class _Merge:
    """One adapter and one base, found to belong together."""

    folder: Path
    base: Path
    adapter: AdapterManifest
    identity: BaseIdentity
    files: ModelFiles
    weights: MergedWeights

    @property
    def is_plain(self) -> bool:
        """Whether the base was held in 16 bits, so that there is one form."""
        return self.adapter.quantization is Quantization.NONE

    def candidate(self, target: Path, form: MergeForm, *, device: str | None, judge: Judge | None) -> MergeCandidate:
        """Write one form to target and, where device has room for it, read it back."""
        self._write(target, form)
        if device is None:
            return MergeCandidate(form=form, bits_per_byte=None, check=None)
        note(f"Reading back the merge into {form.words}")
        expected = expected_scores(self.folder, self.base, self.adapter, form=form, device=device)
        return read_back(target, form, self.adapter, expected=expected, device=device, judge=judge)

    def _write(self, target: Path, form: MergeForm) -> None:
        target.mkdir()
        total = self.files.num_weight_bytes
        with Progress(f"Merging into {form.words}, MB", total // 10**6) as progress:
            done = 0

            def wrote(count: int) -> None:
                nonlocal done
                done += count
                progress.update(done // 10**6)

            for path in self.files.weights:
                rewrite(path, target / path.name, lambda tensor: self.weights.merged(tensor, form), wrote=wrote)
        for path in (*self.files.weights, *self.files.others):
            if not (target / path.name).exists():
                shutil.copyfile(path, target / path.name)
            shutil.copymode(path, target / path.name)

    def manifest(
        self, folder: Path, candidates: tuple[MergeCandidate, ...], *, kept: MergeForm, judge: Judge | None
    ) -> MergeManifest:
        """The record of what lies in folder."""
        num_changed = self.weights.num_changed(kept)
        return MergeManifest(
            adapter_id=self.adapter.adapter_id,
            adapter_weights=self.adapter.digests.weights,
            base=self.identity,
            created_at=int(time.time()),
            kept=kept,
            reason=self._reason(candidates, kept),
            candidates=candidates,
            sample=judge.sample if judge else None,
            num_changed=num_changed,
            num_kept=len(self.weights.tensors) - num_changed,
            left_out=self.files.left_out,
            visibility=self.adapter.visibility,
            files=list_files(folder, but=MERGE_MANIFEST_NAME),
        )

    def _reason(self, candidates: tuple[MergeCandidate, ...], kept: MergeForm) -> str:
        if self.is_plain:
            return "the adapter was trained over 16-bit weights: there is no other form"
        if len(candidates) == 1:
            return "not measured: no dataset was given, so the 16-bit weights were taken"
        (other,) = (candidate for candidate in candidates if candidate.form is not kept)
        (chosen,) = (candidate for candidate in candidates if candidate.form is kept)
        return f"{chosen.bits_per_byte:.4f} bits per byte on the held-out sample, {other.bits_per_byte:.4f} the other"


def _prepare(folder: Path, base: Path) -> _Merge:
    adapter = verify_adapter(folder, None)
    note(f"Reading {base} to see that it is the base of {adapter.adapter_id}")
    identity = read_identity(base)
    tokenizer = load_tokenizer(base)
    check_base(
        adapter,
        identity,
        chat_template=digest_text(tokenizer.chat_template or ""),
        tokenizer=digest_file(base / TOKENIZER_NAME),
    )
    files = model_files(base)
    return _Merge(folder, base, adapter, identity, files, _merged_weights(folder, base, adapter, files=files))


def _merged_weights(folder: Path, base: Path, adapter: AdapterManifest, *, files: ModelFiles) -> MergedWeights:
    family = family_for(adapter.base.model_type)
    factors = read_factors(folder, base, adapter)
    with quiet_libraries():
        shapes = {name: tuple(part.shape) for name, part in meta_model(base).named_parameters()}
    nf4 = adapter.quantization is Quantization.NF4
    four_bit = frozenset(name for name in shapes if nf4 and family.is_quantised(name))
    tensors = {tensor.name: tensor for path in files.weights for tensor in stored_tensors(path)}
    return MergedWeights(
        tensors=tensors,
        places=find_places(
            {name: shapes[name] for name in sorted({*factors, *four_bit})},
            {name: tensor.shape for name, tensor in tensors.items()},
            family,
        ),
        factors=factors,
        four_bit=four_bit,
        device=gpu_or_cpu(),
    )


def _device_to_check(files: ModelFiles, judge: Judge | None) -> str | None:
    device = device_with_room(files.num_weight_bytes)
    if device:
        return device
    size = f"{files.num_weight_bytes / 2**30:.1f} GiB of weights, more than this machine has free memory for"
    if judge is not None:
        raise MachineError(
            f"The merged model has {size}, so its forms cannot be compared here.",
            "Leave --dataset out to merge without a comparison, or merge on a machine with more memory.",
        )
    note(f"The merged model has {size}: it is not read back, and its record says so.")
    return None


def _check_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and holds something.", "Name a new folder with --out.")
    for path in sorted(out.absolute().parent.glob(f".{out.name}.new.*")):
        note(f"{path} is what a merge left that did not end, if none is at work: `rm -r` frees its room.")


def _check_disk(out: Path, needed: int) -> None:
    with disk_errors(out):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.absolute().parent).free
    if free < needed:
        raise MachineError(
            f"The merge needs {needed / 1e9:,.1f} GB on the disk of {out}; {free / 1e9:,.1f} GB are free.",
            "Free some, or name a folder on another disk with --out.",
        )


def _keep(scratch: Path, kept: MergeForm) -> None:
    """Put the files of the form that is kept where they belong, and the other form away."""
    for path in (scratch / kept.value).iterdir():
        path.rename(scratch / path.name)
    for form in MergeForm:
        shutil.rmtree(scratch / form.value, ignore_errors=True)
