"""The Kubernetes manifests of infra/, read once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

INFRA = Path(__file__).parents[3] / "infra"
FILES = (*sorted((INFRA / "kubernetes").glob("*.yaml")), INFRA / "vllm-kubernetes.yaml")


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object with a name to show: its file, kind and name."""
    for path in FILES:
        for one in yaml.safe_load_all(path.read_text()):
            name = one["metadata"].get("name") or one["metadata"]["generateName"]
            yield f"{path.name}: {one['kind']}/{name}", one


def pods() -> dict[str, dict[str, Any]]:
    """The specification and labels of all pods, by the name of what makes them."""
    return {name: one["spec"]["template"] for name, one in documents() if "template" in one.get("spec", {})}


def containers() -> dict[str, dict[str, Any]]:
    """All containers by name."""
    return {
        f"{name}, {container['name']}": container for name, pod in pods().items() for container in _containers_of(pod)
    }


def _containers_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    spec = pod["spec"]
    assert "initContainers" not in spec and "ephemeralContainers" not in spec
    found: list[dict[str, Any]] = spec["containers"]
    return found
