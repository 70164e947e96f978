"""Write an adapter in the form that another engine reads. What is written is read back before it has its name."""

from pathlib import Path

from finetune.adapters.bom import BOM_NAME, bom_document, written_materials
from finetune.adapters.export import check_place, copy_adapter, write_weights
from finetune.adapters.gguf import export_gguf
from finetune.adapters.verify import verify_adapter
from finetune.contracts.adapter import (
    ADAPTER_CONFIG_NAME,
    ADAPTER_WEIGHTS_NAME,
    AdapterKeys,
    AdapterManifest,
)
from finetune.contracts.adapter_files import list_files, write_manifest
from finetune.contracts.errors import UsageError
from finetune.contracts.export_format import ExportFormat
from finetune.contracts.io import digest_file, new_folder, write_bytes, write_json
from finetune.model.adapter_keys import multimodal_state, text_state


def export_as(form: ExportFormat, source: Path, *, out: Path, base: Path | None = None) -> AdapterManifest:
    """Write the adapter in source to the folder out in a form, and verify what was written; over its base, if given.

    Raises as copy_adapter, export_multimodal, export_gguf and verify_adapter do, UsageError for GGUF without a base.
    """
    if form is ExportFormat.GGUF:
        if base is None:
            raise UsageError("GGUF needs to know the base's heads.", "Give --base a folder with its config.json.")
        return export_gguf(source, out, base=base)
    if form is ExportFormat.PEFT_MULTIMODAL:
        return export_multimodal(source, out, base=base)
    manifest = copy_adapter(source, out)
    verify_adapter(out, base)
    return manifest


def export_multimodal(source: Path, out: Path, *, base: Path | None = None) -> AdapterManifest:
    """Write the adapter in source under the names of the multimodal class to the folder out, as copy_adapter does.

    It is another adapter to those who count by digest: its id is its own. With the folder of its base, the multimodal
    class is loaded, and must score the reference text as training did. Raises AdapterError where the family has no such
    class, or the check fails; UsageError when out holds anything else.
    """
    from safetensors.torch import load_file

    manifest = verify_adapter(source, None)
    state = multimodal_state(text_state(load_file(source / ADAPTER_WEIGHTS_NAME), manifest), manifest)
    with new_folder(out) as scratch:
        write_weights(scratch, state)
        write_bytes(scratch / ADAPTER_CONFIG_NAME, (source / ADAPTER_CONFIG_NAME).read_bytes())
        digest = digest_file(scratch / ADAPTER_WEIGHTS_NAME)
        variant = manifest.model_copy(
            update={
                "adapter_id": f"{manifest.adapter_id.rpartition('-')[0]}-{digest[:12]}",
                "keys": AdapterKeys.MULTIMODAL,
                "digests": manifest.digests.model_copy(update={"weights": digest}),
                "files": (),
            }
        )
        write_json(scratch / BOM_NAME, bom_document(variant, written_materials(source)))
        variant = write_manifest(scratch, variant.model_copy(update={"files": list_files(scratch)}))
        verify_adapter(scratch, base)
        check_place(out, variant)
    return variant
