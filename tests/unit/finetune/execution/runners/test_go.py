"""go test in the jail."""

import json
import shutil

import pytest

from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.executed import Toolchain
from finetune.execution.jail import Limits
from finetune.execution.runners.go import compiled_library, entries_of
from finetune.execution.runners.registry import RUNNERS

needs_go = pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed (Debian: golang-go)")

MODULE = "example.com/shop"
CODE = """package shop

import "strings"

func Same(value string) string { return strings.Clone(value) }
"""
TESTS = """package shop

import (
    "fmt"
    "testing"
)

func TestPlain(t *testing.T) { fmt.Println("FAIL"); if Same("a") != "a" { t.Fatal("not the same") } }
func TestBad(t *testing.T) { if Same("a") != "b" { t.Error("not b") } }
func TestLeftOut(t *testing.T) { t.Skip("later") }
func TestCases(t *testing.T) {
    for _, word := range []string{"x", "y z"} {
        t.Run(word, func(t *testing.T) { if Same(word) != word { t.Fatal(word) } })
    }
}
"""
CASES = [f"{MODULE}::TestCases/x", f"{MODULE}::TestCases/y_z"]
GREEN = [f"{MODULE}::TestPlain", *CASES]


@pytest.fixture
def run(jail, tmp_path):
    folder = tmp_path / "repository"
    (folder / "inner").mkdir(parents=True)
    (folder / "go.mod").write_text(f"module {MODULE}\n\ngo 1.18\n")
    (folder / "shop.go").write_text(CODE)
    (folder / "shop_test.go").write_text(TESTS)
    (folder / "inner" / "inner_test.go").write_text(
        'package inner\n\nimport "testing"\n\nfunc TestPlain(t *testing.T) {}\n'
    )
    runner = RUNNERS["go"]
    toolchain = runner.toolchain(None)

    def run(tests=(), overlay=None):
        limits = Limits(timeout_seconds=60)
        return runner.run(jail, toolchain, tree=folder, overlay=overlay or {}, tests=tests, limits=limits)

    return run


@needs_go
def test_each_test_and_case_is_told_by_its_package_and_name(run):
    done = run()
    assert done.broken == "", done.log
    assert dict(done.outcomes) == {
        **dict.fromkeys([*GREEN, f"{MODULE}::TestCases", f"{MODULE}/inner::TestPlain"], "passed"),
        f"{MODULE}::TestBad": "failed",
        f"{MODULE}::TestLeftOut": "skipped",
    }


@needs_go
def test_only_what_was_asked_for_is_told(run):
    assert dict(run(GREEN).outcomes) == dict.fromkeys(GREEN, "passed")
    assert dict(run([f"{MODULE}::TestGone", *CASES]).outcomes) == {
        f"{MODULE}::TestGone": "error",
        **dict.fromkeys(CASES, "passed"),
    }


BROKEN = "package shop\n\nfunc Same(value string) string { %s }\n"
LEAVES = 'package shop\n\nimport "os"\n\nfunc Same(value string) string { os.Exit(%d); return value }\n'
FORGES = """package shop

import ("fmt"; "syscall")

func Same(value string) string {
    for _, name := range []string{"TestPlain", "TestCases", "TestCases/x", "TestCases/y_z"} {
        fmt.Printf("=== RUN   %s\\n--- PASS: %s (0.00s)\\n", name, name)
    }
    syscall.Exit(3)
    return value
}
"""
UNDERLINES = 'package shop\n\nimport "fmt"\n\nfunc Same(value string) string { fmt.Print("no line end"); return "" }\n'


@needs_go
@pytest.mark.parametrize(
    "code",
    [
        *[BROKEN % body for body in ("return value +", 'panic("no")', 'return ""')],
        *[LEAVES % 0, LEAVES % 1, FORGES, UNDERLINES],
        None,
    ],
)
def test_what_the_code_does_wrong_is_its_own_fault(run, code):
    done = run(GREEN, {"shop.go": code.encode() if code else None})
    assert done.broken == "", done.log
    assert not done.passed(GREEN[:1])
    assert not done.passed(GREEN[1:])
    assert set(GREEN) <= set(done.outcomes)


@needs_go
def test_a_test_tool_that_does_not_start_is_broken(jail, tmp_path):
    runner = RUNNERS["go"]
    toolchain = runner.toolchain(None).model_copy(update={"program": "/usr/bin/no-go"})
    done = runner.run(jail, toolchain, tree=tmp_path, overlay={}, tests=GREEN, limits=Limits())
    assert done.broken and not done.outcomes


def test_a_program_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no-go"):
        RUNNERS["go"].toolchain(tmp_path / "no-go")


def _told(*events):
    lines = [json.dumps({"Package": "p", **event}) for event in events]
    return {
        entry["id"]: entry["outcome"]
        for entry in entries_of("\n".join(["go version go1.19", *lines]))
        if "outcome" in entry
    }


RUN, PASS, FAIL = ({"Action": action, "Test": "TestA"} for action in ("run", "pass", "fail"))


def test_the_worst_that_is_said_of_a_test_counts():
    assert _told(RUN, PASS, FAIL, {"Action": "fail"}) == {"p::TestA": "failed"}


def test_a_pass_of_a_test_that_never_ran_is_none():
    assert _told(PASS, {"Action": "pass"}) == {"p::TestA": "error"}


def test_where_a_package_ends_badly_and_no_test_says_why_none_counts():
    assert _told(RUN, PASS, {"Action": "fail"}) == {"p::TestA": "error", "p": "error"}
    assert _told(RUN, PASS) == {"p::TestA": "error", "p": "error"}


def test_words_before_the_version_are_no_report():
    assert list(entries_of('{"Action":"pass","Package":"p","Test":"TestA"}')) == []


def installed(folder, script):
    folder.mkdir()
    (folder / "go").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "go").chmod(0o755)
    return Toolchain(runner="go", program=str(folder / "go"), environment=(("GOROOT", str(folder)),), version="go 9")


def test_the_library_is_compiled_once_where_go_does_not_bring_it_along(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    script = 'umask 077; mkdir -p "$GOCACHE/00" && echo "$@" >> "$GOCACHE/00/said"; echo ran >> "$0.ran"'
    toolchain = installed(tmp_path / "new", script)
    folder = compiled_library(toolchain)
    assert folder is not None and compiled_library(toolchain) == folder
    assert (folder / "00" / "said").read_text() == "build std\n"
    assert (tmp_path / "new" / "go.ran").read_text() == "ran\n"
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "00", folder / "00" / "said")] == [
        "0o755",
        "0o755",
        "0o644",
    ]
    (tmp_path / "new" / "pkg" / "linux_amd64").mkdir(parents=True)
    (tmp_path / "new" / "pkg" / "linux_amd64" / "fmt.a").touch()
    assert compiled_library(toolchain) is None


def test_a_library_that_cannot_be_compiled_is_named_and_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MachineError, match="build std fails"):
        compiled_library(installed(tmp_path / "new", "exit 1"))
    assert list((tmp_path / "cache" / "finetune").iterdir()) == []
