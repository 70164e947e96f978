"""Write an adapter as GGUF, for llama.cpp; what was written is read back and compared, factor by factor."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finetune.adapters.verify import verify_adapter
from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.errors import AdapterError, UsageError
from finetune.contracts.io import FILE_MODE, new_folder
from finetune.families.gguf import GgufForm
from finetune.families.registry import family_for
from finetune.model.factors import SavedFactors, read_factors
from finetune.recipe.resolve import read_text_config

Arrays = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]
DIGEST_KEY = "finetune.adapter.weights_sha256"
VISIBILITY_KEY = "finetune.adapter.visibility"


def export_gguf(source: Path, out: Path, *, base: Path) -> AdapterManifest:
    """Write the adapter in source to out/<adapter id>.gguf, 32-bit; of the base's folder, config.json alone is read.

    Raises AdapterError where the family or a target cannot be written so, UsageError when out holds anything.
    """
    manifest = verify_adapter(source, None)
    form = _form(manifest)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and holds something.", "Name a new folder with --out.")
    config = read_text_config(base)
    _check_config(config, manifest, base)
    factors = read_factors(source, base, manifest)
    scale = {part.scaling * part.a.shape[1] for part in factors.values()}
    assert len(scale) == 1, scale
    arrays = dict(_arrays(factors, form, config))
    with new_folder(out) as scratch:
        path = scratch / f"{manifest.adapter_id}.gguf"
        # llama.cpp divides by the rank, whatever the adapter was scaled by
        _write(path, arrays, manifest, architecture=form.architecture, alpha=scale.pop())
        path.chmod(FILE_MODE)
        _check_written(path, arrays)
    return manifest


def _form(manifest: AdapterManifest) -> GgufForm:
    family = family_for(manifest.base.model_type)
    if family.gguf is None:
        raise AdapterError(
            f"Adapters of the family {family.name} cannot be written as GGUF.",
            "Merge it instead, and convert the merged model: `finetune adapter merge`.",
        )
    fused = sorted(set(manifest.targets) & set(family.experts))
    if fused:
        raise AdapterError(
            f"The adapter reaches {', '.join(fused)}, and factors of fused experts are not written as GGUF.",
            "Merge it instead, and convert the merged model: `finetune adapter merge`.",
        )
    return family.gguf


def _check_config(config: Mapping[str, object], manifest: AdapterManifest, base: Path) -> None:
    found = (config.get("num_hidden_layers"), config.get("hidden_size"))
    expected = (manifest.base.num_hidden_layers, manifest.base.hidden_size)
    if found != expected:
        raise AdapterError(
            f"{base} has {found[0]} layers of width {found[1]}, the adapter's base {expected[0]} of {expected[1]}.",
            "Give --base the folder of the base that the adapter was trained on.",
        )


def _arrays(
    factors: Mapping[str, SavedFactors], form: GgufForm, config: Mapping[str, object]
) -> Iterator[tuple[str, Any]]:
    """(name, values) of each factor: a is (rank, in), b (out, rank), rows and columns where llama.cpp has them."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    (architecture,) = (arch for arch in MODEL_ARCH if MODEL_ARCH_NAMES[arch] == form.architecture)
    layers = config["num_hidden_layers"]
    assert isinstance(layers, int)
    names = get_tensor_name_map(architecture, layers)
    for parameter, part in sorted(factors.items()):
        name = names.get_name(parameter, try_suffixes=(".weight",))
        if name is None:
            raise AdapterError(
                f"llama.cpp has no name for {parameter} in {form.architecture}.",
                "Merge it instead, and convert the merged model: `finetune adapter merge`.",
            )
        module = parameter.split(".")[-2]
        rows, columns = form.rows(module, config), form.columns(module, config)
        a, b = part.a[0].numpy(), part.b[0].numpy()
        yield f"{name}.lora_a", np.ascontiguousarray(a if columns is None else a[:, list(columns)])
        yield f"{name}.lora_b", np.ascontiguousarray(b if rows is None else b[list(rows)])


def _write(path: Path, arrays: Arrays, manifest: AdapterManifest, *, architecture: str, alpha: float) -> None:
    from gguf import GGUFType, GGUFWriter, Keys, LlamaFileType

    writer = GGUFWriter(path, architecture)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, alpha)
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_name(manifest.adapter_id)
    writer.add_string(DIGEST_KEY, manifest.digests.weights)
    writer.add_array(VISIBILITY_KEY, manifest.visibility)
    for name, values in arrays.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _check_written(path: Path, arrays: Arrays) -> None:
    from gguf import GGUFReader

    found = {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}
    if found.keys() != arrays.keys() or not all(np.array_equal(found[name], arrays[name]) for name in arrays):
        raise AdapterError(f"{path.name} does not hold what was written.", "Report this with --debug.")
