"""infra/compose.yaml as Docker Compose itself reads it, and the proxy's files as nginx does. Nothing is started."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.mlflow_site import NGINX
from tests.e2e.test_replica_tls import make_certificates

INFRA = Path(__file__).parents[2] / "infra"
COMPOSE = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""
STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
DIGEST = "0" * 64
TOLD = {
    **{f"{name}_IMAGE": f"{name.lower()}@sha256:{DIGEST}" for name in ("POSTGRES", "SEAWEEDFS", "MLFLOW", "NGINX")},
    "FINETUNE_IMAGE": f"finetune@sha256:{DIGEST}",
    "SITE_NAME": "mlflow.example",
    "BASE_FOLDER": "/srv/base",
    "HOME_FOLDER": "/srv/home",
}
read_by_compose = pytest.mark.skipif(not COMPOSE, reason="docker-compose is not installed")


def config(told: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    words = [COMPOSE, "--file", INFRA / "compose.yaml", "config", "--format", "json"]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **told}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    read = config(TOLD)
    # the wheel's launcher loses Compose's exit code; what it says it says here
    assert read.stderr == ""
    return dict(json.loads(read.stdout)["services"])


@read_by_compose
def test_each_service_is_confined(services: dict[str, dict[str, Any]]) -> None:
    assert len(services) == 6
    for name, one in services.items():
        assert one["read_only"] is True and one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["user"] not in ("", "0", "root") and not one["user"].startswith("0:"), name
        assert int(one["mem_limit"]) > 0 and one["pids_limit"] == 512, name
        assert one["healthcheck"]["test"][0] == "CMD", name
        assert one["image"].endswith(f"@sha256:{DIGEST}") and not one.get("privileged"), name
        assert "build" not in one and "devices" not in one, name


@read_by_compose
def test_only_the_proxy_has_a_way_out_and_in(services: dict[str, dict[str, Any]]) -> None:
    document = json.loads(config(TOLD).stdout)
    assert document["networks"]["stores"]["internal"] is True
    reach = {name: set(one.get("networks", ())) or {one["network_mode"]} for name, one in services.items()}
    assert reach == {
        "database": {"stores"},
        "store": {"stores"},
        "mlflow": {"stores"},
        "endpoint": {"none"},
        "endpoint_door": {"service:endpoint"},
        "proxy": {"front"},
    }
    published = {name: {port["host_ip"] for port in one["ports"]} for name, one in services.items() if "ports" in one}
    assert published == {"proxy": {"127.0.0.1"}}
    (card,) = services["endpoint"]["deploy"]["resources"]["reservations"]["devices"]
    assert (card["driver"], card["capabilities"]) == ("nvidia", ["gpu"])
    assert "-master.telemetry=false" in services["store"]["command"]


@read_by_compose
def test_secrets_are_files_and_files_of_this_project_are_there(services: dict[str, dict[str, Any]]) -> None:
    document = json.loads(config(TOLD).stdout)
    assert all(Path(one["file"]).parent == INFRA / "secrets" for one in document["secrets"].values())
    assert {each["source"] for one in services.values() for each in one.get("secrets", ())} == set(document["secrets"])
    for name, one in services.items():
        for setting, value in (one.get("environment") or {}).items():
            held = re.search("PASSWORD|SECRET|KEY|PGPASS|CREDENTIALS", setting)
            assert not held or value.startswith("/run/secrets/"), (name, setting)
        for mount in one.get("volumes", ()):
            ours = Path(mount["source"])
            if ours.is_relative_to(INFRA):
                assert ours.is_file() and mount["read_only"], (name, ours)


@read_by_compose
@pytest.mark.parametrize("name", sorted(TOLD))
def test_what_a_site_must_say_has_no_default(name: str) -> None:
    read = config({other: value for other, value in TOLD.items() if other != name})
    assert read.stdout == "" and f"required variable {name} is missing" in read.stderr


@pytest.mark.skipif(not (Path(NGINX).is_file() and STREAM.is_file()), reason="nginx with its stream module is needed")
def test_nginx_reads_the_files_of_the_proxy_and_of_the_door(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "tls")
    for file in (*(INFRA / "mlflow").glob("*.conf"), *(INFRA / "proxy").glob("*.conf")):
        text = file.read_text().replace("/etc/mlflow/tls/server.key", str(certificates / "server.pem"))
        text = text.replace("/etc/mlflow/tls/server.pem", str(certificates / "server.pem"))
        (tmp_path / file.name).write_text(text.replace("/run/", f"{tmp_path}/"))
    (tmp_path / "endpoint").mkdir()
    for name, before in (("nginx.conf", ""), ("door.conf", f"load_module {STREAM};")):
        words = [NGINX, "-t", "-e", "stderr", "-p", tmp_path, "-c", tmp_path / name, "-g", before]
        tested = subprocess.run(words, capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stderr
        assert "[warn]" not in tested.stderr.replace('[warn] the "user" directive', "")
