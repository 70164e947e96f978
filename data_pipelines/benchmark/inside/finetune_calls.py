"""A pytest plugin for the jail: says which functions of the tree each test enters.

Runs under the repository's own Python (3.8 and newer), started by PYTEST_PLUGINS, and speaks through the runner's own
report, which tests do not see. Says at the end which modules from outside the tree were imported.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

ROOT = "/repo/"
say = sys.modules["__main__"].REPORT.say
entered: dict[int, Any] = {}
numbers: dict[tuple[str, int], int] = {}


def trace(frame: Any, event: str, argument: Any) -> None:
    """Keep the function that is entered; None: its lines are not traced."""
    code = frame.f_code
    entered[id(code)] = code


def number(code: Any) -> int:
    place = (code.co_filename[len(ROOT) :], code.co_firstlineno)
    if place not in numbers:
        numbers[place] = len(numbers)
        say(function=numbers[place], path=place[0], line=place[1])
    return numbers[place]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: Any, nextitem: Any) -> Any:
    entered.clear()
    threading.settrace(trace)
    sys.settrace(trace)
    yield
    sys.settrace(None)
    threading.settrace(None)
    codes = [code for code in list(entered.values()) if code.co_filename.startswith(ROOT)]
    say(test=item.nodeid, calls=sorted({number(code) for code in codes}))


def pytest_sessionfinish() -> None:
    """Names in the order of their import."""
    places = [(name, str(getattr(module, "__file__", None) or ROOT)) for name, module in list(sys.modules.items())]
    say(modules=[name for name, place in places if not place.startswith((ROOT, "/tmp/"))])  # noqa: S108
