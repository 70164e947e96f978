"""What every pod of infra/ asks for and gives up, and which of them may speak to whom."""

import re

import pytest

from serving.settings import ServerSettings
from tests.unit.infra.manifests import containers, documents, pods

PODS, CONTAINERS, DOCUMENTS = pods(), containers(), dict(documents())
POLICIES = {name: one["spec"] for name, one in DOCUMENTS.items() if one["kind"] == "NetworkPolicy"}


def test_there_are_pods_for_training_the_endpoint_and_servers():
    assert len(PODS) == 4 and len(CONTAINERS) == 5


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_nobody_and_holds_no_token_of_the_cluster(name):
    spec = PODS[name]["spec"]
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"persistentVolumeClaim", "emptyDir", "secret", "configMap"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_confined_and_bounded(name):
    container = CONTAINERS[name]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    # the rest of its disk is read-only
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("name", CONTAINERS)
def test_an_image_has_a_version_and_secrets_come_by_reference(name):
    container = CONTAINERS[name]
    assert re.fullmatch(r"registry\.example/[a-z0-9-]+(:v?\d+\.\d+(\.\d+)?|@sha256:[0-9a-f]{64})", container["image"])
    for variable in container.get("env", []):
        if re.search("KEY|TOKEN|PASSWORD|SECRET", variable["name"]):
            assert "secretKeyRef" in variable["valueFrom"] and "value" not in variable


def test_no_secret_lies_in_a_manifest():
    assert not [name for name, one in DOCUMENTS.items() if one["kind"] == "Secret"]


def test_nothing_is_reached_that_no_policy_names():
    default = DOCUMENTS["00-namespace.yaml: NetworkPolicy/nothing-else"]["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # training has no policy of its own: no network
    own = [policy for name, policy in POLICIES.items() if "nothing-else" not in name]
    assert all(policy["policyTypes"] == ["Ingress", "Egress"] for policy in own)
    selected = [policy["podSelector"]["matchLabels"] for policy in own]
    assert PODS["train.yaml: Job/train-"]["metadata"]["labels"] not in selected
    assert PODS["endpoint.yaml: Deployment/endpoint"]["metadata"]["labels"] in selected
    # what may be asked from outside asks nobody
    assert all(policy["egress"] == [] or _only_pods(policy["egress"]) for policy in own)


def _only_pods(rules) -> bool:
    return all(
        "to" in rule and all("podSelector" in peer and "ipBlock" not in peer for peer in rule["to"]) for rule in rules
    )


@pytest.mark.parametrize("name", [name for name in PODS if "train" not in name])
def test_what_serves_is_watched_and_drains(name):
    spec = PODS[name]["spec"]
    serving = spec["containers"][0]
    assert {"startupProbe", "readinessProbe"} <= serving.keys()
    assert spec.get("terminationGracePeriodSeconds", 30) >= 30


def test_the_endpoint_is_reached_through_its_door_alone():
    endpoint, door = PODS["endpoint.yaml: Deployment/endpoint"]["spec"]["containers"]
    assert "ports" not in endpoint and [port["containerPort"] for port in door["ports"]] == [8443]
    settings = DOCUMENTS["endpoint.yaml: ConfigMap/endpoint-door"]["data"]["nginx.conf"]
    assert f"proxy_pass http://{ServerSettings().host}:8000;" in settings and "listen 8443 ssl;" in settings
    service = DOCUMENTS["endpoint.yaml: Service/endpoint"]["spec"]
    assert service["selector"] == PODS["endpoint.yaml: Deployment/endpoint"]["metadata"]["labels"]


def test_one_gpu_is_never_asked_for_twice_at_once():
    assert DOCUMENTS["endpoint.yaml: Deployment/endpoint"]["spec"]["strategy"] == {"type": "Recreate"}
    assert DOCUMENTS["train.yaml: Job/train-"]["spec"]["backoffLimit"] == 0
    for name in ("endpoint.yaml: Deployment/endpoint, endpoint", "train.yaml: Job/train-, train"):
        assert CONTAINERS[name]["resources"]["limits"]["nvidia.com/gpu"] == 1
