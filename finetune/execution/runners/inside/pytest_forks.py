"""Tries many texts in the place of files of the tree: one warm process forks a child for each. Called as:
python pytest_forks.py REQUEST.json

The parent imports pytest and what the tests need from outside the tree, and nothing of the tree: a child that is forked
from it finds the changed file as a fresh process would. Runs in the jail alone, under Python 3.8 and newer.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import importlib
import json
import os
import resource
import selectors
import shutil
import signal
import sys
import time
from typing import Any

import pytest_run  # type: ignore[import-not-found]

ROOT = "/repo/"
OURS = "/repo/.finetune/"
SKIP = "FINETUNE_FORKS_SKIP"
CACHE = "/tmp/.compiled"  # noqa: S108 - the jail's own
SCRATCH = ("/tmp", "/home/user", "/dev/shm")  # noqa: S108
CHUNK_BYTES = 1 << 16
POLL_SECONDS = 0.5
# in the jail the command has this number, on a host a thread of the kernel
JAILED_PID = 2


def is_of_tree(module: Any) -> bool:
    places = [getattr(module, "__file__", None), *list(getattr(module, "__path__", None) or ())]
    return any(str(place).startswith(ROOT) and not str(place).startswith(OURS) for place in places if place)


def preload(names: list[str], paths: list[str]) -> None:
    """Import what the tests import from outside the tree. A name that brings code of the tree along, cannot be
    imported, or starts a thread is left out: the process begins anew without it."""
    skipped = set(filter(None, os.environ.get(SKIP, "").split(",")))
    before = sys.path[:]
    sys.path[:0] = paths
    for name in names:
        if name in skipped or name in sys.modules:
            continue
        known = set(sys.modules)
        try:
            importlib.import_module(name)
            brought = [sys.modules.get(other) for other in set(sys.modules) - known]
            fit = not any(map(is_of_tree, brought)) and len(os.listdir("/proc/self/task")) == 1
        except BaseException:  # whatever a library does when it is imported
            fit = False
        if not fit:
            os.dup2(pytest_run.REPORT.stream.fileno(), 1)
            os.environ[SKIP] = ",".join(sorted(skipped | {name}))
            os.execv(sys.executable, [sys.executable, __file__, sys.argv[1]])  # noqa: S606
    os.environ.pop(SKIP, None)
    sys.path[:] = before


def keep_quiet() -> None:
    """What was imported before pytest could rewrite its asserts is no reason for a warning, which may be an error."""
    from _pytest.assertion import rewrite

    if hasattr(rewrite.AssertionRewritingHook, "_warn_already_imported"):
        rewrite.AssertionRewritingHook._warn_already_imported = lambda *_: None  # type: ignore[method-assign]


def write(path: str, text: str) -> None:
    """Write a file of the tree, and forget what was compiled from it: another text may have the same size and time."""
    with open(ROOT + path, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    stem = CACHE + ROOT + path[: -len(".py")]
    for compiled in glob.glob(glob.escape(stem) + ".*"):
        os.unlink(compiled)


def read(path: str) -> str:
    with open(ROOT + path, encoding="utf-8", newline="") as stream:
        return stream.read()


class Child:
    """A process that runs tests, heard until it has finished, died or reached a limit; then nothing of it is left."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.outcomes: dict[str, str] = {}
        self.word = request["word"] + " "
        self.rest = b""
        self.written = 0
        self.finished = False
        self.limits = request
        report, tell = os.pipe()
        output, log = os.pipe()
        self.report, self.output = report, output
        self.pid = os.fork()
        if self.pid == 0:
            become(request, tell, log)
        os.close(tell)
        os.close(log)

    def hear(self) -> dict[str, str]:
        """How each test ended that did."""
        deadline = time.monotonic() + self.limits["seconds"]
        with selectors.DefaultSelector() as selector:
            selector.register(self.report, selectors.EVENT_READ)
            selector.register(self.output, selectors.EVENT_READ)
            while not self.is_over(deadline):
                for key, _ in selector.select(max(0, min(POLL_SECONDS, deadline - time.monotonic()))):
                    chunk = os.read(key.fd, CHUNK_BYTES)
                    if not chunk:
                        selector.unregister(key.fd)
                    if key.fd == self.report:
                        self.finished = self.finished or not chunk
                        self.read(chunk)
                    else:
                        self.written += len(chunk)
        self.end()
        return self.outcomes

    def is_over(self, deadline: float) -> bool:
        flooded = self.written > self.limits["output_bytes"]
        return self.finished or flooded or time.monotonic() >= deadline

    def read(self, chunk: bytes) -> None:
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace")
            if text.startswith(self.word):
                entry = json.loads(text[len(self.word) :])
                self.finished = self.finished or "finished" in entry
                if "id" in entry:
                    self.outcomes[entry["id"]] = entry["outcome"]

    def end(self) -> None:
        """Kill all in the jail but this process and its first one: nothing that was started can run on."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.report)
        os.close(self.output)
        for folder in SCRATCH:
            for name in os.listdir(folder):
                clear(os.path.join(folder, name))


def clear(path: str) -> None:
    if path == CACHE:
        return
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


def become(request: dict[str, Any], tell: int, log: int) -> None:
    """Be the process that runs the tests, as pytest_run is one."""
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (request["processor_seconds"],) * 2)
        pytest_run.REPORT.stream.close()
        os.dup2(log, 1)
        os.dup2(log, 2)
        importlib.invalidate_caches()
        code = pytest_run.run(request, pytest_run.Report(os.fdopen(tell, "w", buffering=1), request["word"]))
    finally:
        os._exit(code)


class Trial:
    """Tests that must tell the texts that are tried in the place of a file from the one that lies there."""

    def __init__(self, request: dict[str, Any], trial: dict[str, Any]) -> None:
        self.path, self.texts, self.tests = trial["path"], trial["texts"], trial["tests"]
        limits = {name: trial[name] for name in ("seconds", "processor_seconds")}
        self.request = {**request, **limits, "stop": True}

    def survivor(self) -> int:
        """The first text under which all tests pass, -1: none."""
        original = read(self.path)
        try:
            return next((number for number in range(len(self.texts)) if self.survives(number)), -1)
        finally:
            write(self.path, original)

    def survives(self, number: int) -> bool:
        """One test that tells it is enough; only where the first does not are the others asked for."""
        write(self.path, self.texts[number])
        return self.passes(self.tests[:1]) and self.passes(self.tests)

    def passes(self, tests: list[str]) -> bool:
        outcomes = Child({**self.request, "tests": tests}).hear()
        return all(outcomes.get(test) == "passed" for test in tests)


def main() -> int:
    if os.getpid() != JAILED_PID:
        return 2
    request = pytest_run.read_request(sys.argv[1])
    report = pytest_run.REPORT
    report.word = request["word"]
    import pytest

    preload(request.pop("modules"), request["paths"])
    keep_quiet()
    sys.dont_write_bytecode = False
    sys.pycache_prefix = CACHE
    gc.freeze()
    report.say(started=f"pytest {pytest.__version__}")
    for number, trial in enumerate(request.pop("trials")):
        report.say(begun=number)
        report.say(tried=number, survivor=Trial(request, trial).survivor())
    report.say(processor_seconds=pytest_run.processor_seconds())
    return 0


if __name__ == "__main__":
    sys.exit(main())
