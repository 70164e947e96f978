"""`finetune doctor` as a process: what it finds, what it misses, and what it says when not everything is held."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from finetune.cli.doctor_checks import check_machine
from finetune.contracts.run import Home
from finetune.guard.jail import JailMode, Needs, missing

UNSHARE, IP = shutil.which("unshare"), shutil.which("ip")
by_hand = pytest.mark.skipif(
    UNSHARE is None or IP is None or os.geteuid() != 0, reason="a network made by hand takes root, unshare and ip"
)


def doctor(*words: object, before: tuple[str, ...] = ()) -> tuple[int, dict, str]:
    """Exit code, document and stderr of a command; before is what starts it."""
    command = [*before, sys.executable, "-m", "finetune", "doctor", *map(str, words), "--json"]
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_this_machine_will_do(tmp_path):
    code, document, _ = doctor("--home", tmp_path / "home")
    found = {check["name"]: check for check in document["checks"]}
    assert code == 0 and document["usable"], document
    assert found["offline switches"]["state"] == "ok", "asked of the libraries themselves"
    assert found["device"]["found"].startswith("torch 2.")
    assert [check["name"] for check in document["checks"] if check["state"] != "ok" and not check["next"]] == []
    assert not (tmp_path / "home").exists(), "nothing is made"


@pytest.mark.slow
def test_what_is_missing_is_named_with_what_to_type(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "mlflow.db").write_text("no database")
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "kernels.py").touch()
    # as a machine is on which a library has been broken
    (packages / "torch.py").write_text("raise ImportError('torch is broken')")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", ":".join([str(packages), *filter(None, sys.path)]))
    monkeypatch.syspath_prepend(packages)
    wrong = {check.name: check for check in check_machine(Home(home), tell=lambda _: None) if check.state == "missing"}
    assert wrong.keys() == {"git", "MLflow store", "hub kernels", "libraries"}
    assert all(check.next for check in wrong.values())
    assert "torch is broken" in wrong["libraries"].found


def test_the_audit_hook_holds_what_python_is_asked_and_no_more():
    code, document, said = doctor("egress", "--jail", "off")
    assert document["layers"] == ["audit hook"]
    for one in document["tries"]:
        if one["way"] in ("TCP", "UDP", "DNS"):
            assert one["held"] and one["seen"] == "refused by the audit hook"
    # on a machine that has no network, nothing leaves by the other two either
    assert code == (0 if document["held"] else 4)
    assert "Something tried to leave" not in said, "what is tried on purpose is no attempt of a job"


@by_hand
def test_what_gets_out_is_said_with_the_ways_that_are_open():
    reachable = f'{IP} link set lo up && {IP} addr add 192.0.2.1/32 dev lo && exec "$@"'
    code, document, said = doctor(
        "egress", "--jail", "off", before=(str(UNSHARE), "--net", "/bin/sh", "-c", reachable, "sh")
    )
    assert code == 4 and not document["held"]
    out = [(one["way"], one["target"], one["seen"]) for one in document["tries"] if not one["held"]]
    assert out == [(way, "192.0.2.1:443", "a packet left") for way in ("TCP", "UDP", "C library", "child process")]
    assert "not everything was held: TCP, UDP, C library, child process." in said


@pytest.mark.skipif(bool(missing(JailMode.NAMESPACE, Needs())), reason="namespaces are forbidden here")
def test_in_a_namespace_without_a_network_five_of_five_are_held():
    code, document, _ = doctor("egress", "--to", "10.0.0.1:80")
    assert code == 0 and document["held"]
    assert document["layers"] == ["network namespace", "audit hook"]
    assert {one["way"] for one in document["tries"]} == {"TCP", "UDP", "DNS", "C library", "child process"}
    assert all(one["seen"].startswith("unreachable: ") for one in document["tries"]), "the hook hides nothing"
    targets = {one["target"] for one in document["tries"]}
    assert targets == {"192.0.2.1:443", "[2001:db8::1]:443", "10.0.0.1:80", "example.com"}


@pytest.mark.skipif(bool(missing(JailMode.SECCOMP, Needs())), reason="no filter of system calls here")
def test_under_a_filter_of_system_calls_five_of_five_are_held():
    code, document, _ = doctor("egress", "--jail", "seccomp")
    assert code == 0 and document["held"]
    assert document["layers"] == ["seccomp", "audit hook"]
    assert all(one["seen"].startswith(("unreachable: ", "denied: ")) for one in document["tries"])


@pytest.mark.parametrize("to", ["example.com:443", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:99999", "::1"])
def test_a_destination_is_an_address_with_a_port(to):
    code, document, _ = doctor("egress", "--to", to)
    assert code == 2 and document["error"] == "UsageError"
