"""The manifests hold what servers of models must ask for and keep closed; the script is sound bash."""

import subprocess
from pathlib import Path

import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"


def documents() -> dict[str, dict]:
    text = (INFRA / "vllm-kubernetes.yaml").read_text()
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(text)}


def container(name: str) -> dict:
    (found,) = documents()[name]["spec"]["template"]["spec"]["containers"]
    return found


def test_each_server_asks_for_a_gpu_and_is_watched():
    vllm = container("StatefulSet/vllm")
    assert vllm["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= vllm.keys()
    names = {one["name"]: one.get("value") for one in vllm["env"]}
    assert names["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1" and names["HF_HUB_OFFLINE"] == "1"


def test_nobody_but_the_gateway_reaches_the_servers():
    vllm = container("StatefulSet/vllm")
    assert "--ssl-cert-reqs=2" in vllm["args"]
    policy = documents()["NetworkPolicy/vllm"]["spec"]
    (source,) = policy["ingress"][0]["from"]
    gateway = documents()["Deployment/finetune-gateway"]["spec"]
    assert source["podSelector"]["matchLabels"] == gateway["template"]["metadata"]["labels"]
    assert policy["egress"] == [] and gateway["replicas"] == 1


def test_the_gateway_names_each_server():
    args = container("Deployment/finetune-gateway")["args"]
    named = [one for one in args if one.startswith("--replica=https://vllm-")]
    assert len(named) == documents()["StatefulSet/vllm"]["spec"]["replicas"]


@pytest.mark.parametrize(("name", "words"), [("vllm-cpu.sh", "install DIR"), ("air-gap-check.sh", "DIR --install")])
def test_a_script_is_bash_and_says_how_it_is_used(name, words):
    script = INFRA / name
    subprocess.run(["bash", "-n", str(script)], check=True)
    told = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert told.returncode == 2 and words in told.stderr and told.stdout == ""
