"""The bill of materials of an adapter: what went into it, in CycloneDX 1.6. Light: no model library is loaded.

It is written with the adapter, where the libraries are that made it. The scores come later, from its manifest.
"""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from pydantic import JsonValue

import finetune
from finetune.contracts.adapter import AdapterManifest, Score, whole_scores
from finetune.contracts.bases import known_licence
from finetune.contracts.errors import AdapterError
from finetune.contracts.plain_files import NotPlainError, parse_object, read_plain

BOM_NAME = "bom.cdx.json"
PROJECT = "finetune"
BASE_REF = "base"
# so that the same adapter has the same document number everywhere
NAMESPACE = uuid.UUID("6a2f1d3e-6f0e-5b0a-9a39-0d1c6b6f7a26")
MAX_LICENCE_LETTERS = 80
Document = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Library:
    """An installed distribution. licence is what its metadata says, "" for nothing; spdx: it is an SPDX expression."""

    name: str
    version: str
    licence: str
    spdx: bool


@dataclass(frozen=True, slots=True)
class Materials:
    """What a manifest does not know of an adapter's making. libraries None, base_licence "": not known."""

    libraries: tuple[Library, ...] | None = None
    base_licence: str = ""


UNKNOWN = Materials()


def materials_here(base: Path) -> Materials:
    """Those of an adapter that is made in this environment over the base in a folder."""
    return Materials(installed_libraries(), known_licence(base))


def written_materials(folder: Path) -> Materials:
    """What the document in an adapter's folder names, without one nothing. Raises AdapterError for a damaged one."""
    path = folder / BOM_NAME
    try:
        parts = parse_object(read_plain(path))["components"]
        libraries = tuple(_read_library(one) for one in parts if one["type"] == "library")
        licences = [_licence_of(one)[0] for one in parts if one["bom-ref"] == BASE_REF]
    except FileNotFoundError:
        return UNKNOWN
    except (NotPlainError, KeyError, TypeError, AttributeError, IndexError) as cause:
        raise AdapterError(f"{path} is no bill of materials: {cause!r}.", "Export the adapter again.") from cause
    return Materials(libraries, licences[0] if licences else "")


def installed_libraries() -> tuple[Library, ...]:
    """What this project needs and has in this environment, needs of needs included, by name."""
    found: dict[str, Distribution] = {}
    left = [PROJECT]
    while left:
        name = _normal(left.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            # another platform's, or an extra's
            continue
        left += _needs(found[name])
    found.pop(PROJECT, None)
    return tuple(_library(name, found[name]) for name in sorted(found))


def bom_document(manifest: AdapterManifest, materials: Materials) -> Document:
    """The document, with the scores that the manifest has by now."""
    digests, libraries = manifest.digests, materials.libraries
    base = _part(BASE_REF, "machine-learning-model", manifest.base.name, manifest.base.digest)
    parts: list[Document] = [
        _with_licence(base, materials.base_licence),
        _part("dataset", "data", "dataset", digests.dataset),
        _part("recipe", "data", "recipe", digests.recipe),
        *(_library_part(library) for library in libraries or ()),
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(NAMESPACE, digests.weights).urn,
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(manifest.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tools": {"components": [{"type": "application", "name": PROJECT, "version": finetune.__version__}]},
            "component": _adapter_part(manifest),
            "properties": [_property("libraries", "of the training environment" if libraries else "not recorded")],
        },
        "components": [*parts],
        "dependencies": [{"ref": "adapter", "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def _adapter_part(manifest: AdapterManifest) -> Document:
    return {
        "type": "machine-learning-model",
        "bom-ref": "adapter",
        "name": manifest.adapter_id,
        "version": manifest.digests.weights[:12],
        "description": f"LoRA adapter of rank {manifest.rank} over {manifest.base.name}",
        "hashes": [{"alg": "SHA-256", "content": manifest.digests.weights}],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": "text-generation",
                "architectureFamily": manifest.family.family,
                "modelArchitecture": manifest.base.model_type,
                "datasets": [{"ref": "dataset"}],
                "inputs": [{"format": "text"}],
                "outputs": [{"format": "text"}],
            },
            "quantitativeAnalysis": {
                "performanceMetrics": [metric for score in whole_scores(manifest.scores) for metric in _metrics(score)]
            },
        },
        "properties": [
            _property("run", manifest.run_id),
            _property("quantization of the base in training", manifest.quantization.value),
            _property("targets", ", ".join(manifest.targets)),
            _property("chat template", manifest.digests.chat_template),
            _property("tokenizer", manifest.digests.tokenizer),
            _property("visibility of the sources", ", ".join(manifest.visibility) or "not stated"),
        ],
    }


def _metrics(score: Score) -> Iterator[JsonValue]:
    named = f"{score.name} ({score.unit})"
    yield {"type": named, "slice": "base", "value": f"{score.base:.6g}"}
    yield {"type": named, "slice": "adapter", "value": f"{score.adapter:.6g}"}
    yield {
        "type": f"{named}, adapter minus base",
        "slice": f"{score.num_items} items in {score.num_clusters} {score.clusters}",
        "value": f"{score.difference:.6g}",
        "confidenceInterval": {"lowerBound": f"{score.low:.6g}", "upperBound": f"{score.high:.6g}"},
    }


def _part(ref: str, kind: str, name: str, digest: str) -> Document:
    # no "hashes": those are of one file, and these digests are over several
    return {"type": kind, "bom-ref": ref, "name": name, "properties": [_property("digest", digest)]}


def _property(name: str, value: str) -> Document:
    return {"name": f"{PROJECT}:{name}", "value": value}


def _with_licence(part: Document, licence: str, *, spdx: bool = False) -> Document:
    if not licence:
        return part
    return {**part, "licenses": [{"expression": licence} if spdx else {"license": {"name": licence}}]}


def _library_part(library: Library) -> Document:
    name = f"pkg:pypi/{library.name}@{library.version}"
    part: Document = {
        "type": "library",
        "bom-ref": name,
        "name": library.name,
        "version": library.version,
        "purl": name,
    }
    return _with_licence(part, library.licence, spdx=library.spdx)


def _read_library(part: dict[str, Any]) -> Library:
    licence, spdx = _licence_of(part)
    return Library(str(part["name"]), str(part["version"]), licence, spdx)


def _licence_of(part: dict[str, Any]) -> tuple[str, bool]:
    said = (part.get("licenses") or [{}])[0]
    if "expression" in said:
        return str(said["expression"]), True
    return str(said.get("license", {}).get("name", "")), False


def _library(name: str, found: Distribution) -> Library:
    # get_all: importlib_metadata, once imported, answers in the standard library's place, and its [] raises for what is
    # not there
    said = found.metadata
    expression = next(iter(said.get_all("License-Expression") or ()), "")
    if expression:
        return Library(name, found.version, expression, spdx=True)
    # some put the whole text there
    text = next(iter(said.get_all("License") or ()), "").strip()
    if text and "\n" not in text and len(text) <= MAX_LICENCE_LETTERS:
        return Library(name, found.version, text, spdx=False)
    classes = [line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or () if line.startswith("License ::")]
    return Library(name, found.version, ", ".join(classes), spdx=False)


def _needs(found: Distribution) -> Iterator[str]:
    from packaging.requirements import Requirement

    for line in found.requires or ():
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield need.name


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
