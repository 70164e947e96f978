"""Requests that no HTTP library would send, byte by byte, to a server that answers somebody else meanwhile.

No answer may be a 5xx, tell a path of the server or be waited for; whoever else asks gets the same answers as ever.
Run: .venv/bin/python -m bench.fuzz_http [--number 2000] [--seed 0]
"""

import argparse
import json
import logging
import random
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from bench.raw_requests import QUESTION, WAYS, Raw

ROOT = Path(__file__).resolve().parent.parent
MAX_SECONDS = 10.0
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


@dataclass
class Answers:
    """Status codes of what was answered (0: closed without a word), and what should not have been."""

    codes: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    num_bystanders: int = 0


def answer_to(raw: Raw, address: tuple[str, int]) -> bytes | None:
    """All that the server sends to a raw request until it closes; None where it does not in time."""
    with socket.create_connection(address, timeout=MAX_SECONDS) as sent:
        sent.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for piece in raw.pieces:
                sent.sendall(piece)
            if raw.reset:
                sent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return received
            if not raw.whole:
                sent.shutdown(socket.SHUT_WR)
            while part := sent.recv(65536):
                received += part
        except TimeoutError:
            return None
        except OSError:
            # it was sent away while it still spoke
            pass
        return received


class Bystander:
    """Somebody who asks for the same again and again, and keeps what was not as at first."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key
        self.num_answers, self.problems = 0, list[str]()
        self._stop = threading.Event()
        self._first = self._ask()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> "Bystander":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._stop.is_set() or not self.num_answers:
            try:
                answer = self._ask()
            except (requests.RequestException, ValueError, KeyError, IndexError) as error:
                answer = repr(error)
            self.num_answers += 1
            if answer != self._first:
                self.problems.append(f"a bystander's stream was {answer[:200]!r} in place of {self._first[:200]!r}")

    def _ask(self) -> str:
        body = {"model": "tiny", "messages": QUESTION, "max_tokens": 12, "temperature": 0, "stream": True}
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = requests.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        *events, end, _ = answer.text.split("\n\n")
        assert end == "data: [DONE]", answer.text
        return "".join(json.loads(event[6:])["choices"][0]["delta"].get("content") or "" for event in events)


def fuzz(url: str, key: str, *, number: int, seed: int, secret: str) -> Answers:
    """So many raw requests to a server that serves the base tiny; secret is a text that no answer may have."""
    draw = random.Random(seed)
    host, _, port = url.removeprefix("http://").partition(":")
    found = Answers()
    with Bystander(url, key) as bystander, logged_failures(found):
        for count in range(number):
            raw = draw.choice(WAYS)(draw, draw.choice((key, key, key, "ft_nobody")))
            received = answer_to(raw, (host, int(port)))
            codes = [int(code) for code in STATUS.findall(received or b"")] or [0]
            found.codes.update(codes)
            shown = f"{count} {raw.done}: {(received or b'')[:300]!r}"
            if received is None:
                found.problems.append(f"no end within {MAX_SECONDS:g} s: {shown}")
            elif max(codes) >= 500 or secret.encode() in received or b"Traceback" in received:
                found.problems.append(shown)
            elif raw.whole and codes == [0]:
                found.problems.append(f"no answer: {shown}")
    found.num_bystanders = bystander.num_answers
    found.problems += bystander.problems
    return found


@contextmanager
def logged_failures(found: Answers) -> Iterator[None]:
    """What a server of this process says of its failures while the block runs is among what should not have been."""

    class Failures(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.problems.append(f"logged: {record.getMessage()} {record.exc_info and record.exc_info[1]!r}")

    handler = Failures(logging.ERROR)
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "serving", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


@contextmanager
def tiny_server(folder: Path) -> Iterator[tuple[str, str]]:
    """A server of the embedded base that needs a key: its address, and a key of an administrator."""
    from finetune.contracts.adapter import Quantization
    from finetune.contracts.run import Home
    from serving.access.keys import KeyFile
    from serving.access.scopes import Scope
    from serving.run import running_server
    from serving.settings import ServerSettings

    # what asks for as much as it may get is answered soon
    settings = ServerSettings(max_tokens=32, max_context_tokens=512)
    home = Home(folder)
    key = KeyFile.within(home.served).create("admin", scopes=[Scope.ADMIN], adapters=[])[1]
    base = folder / "tiny"
    base.symlink_to(ROOT / "finetune" / "embedded" / "base")
    with running_server(base, home.adapters, home=home, quantization=Quantization.NONE, settings=settings) as url:
        yield url, key


def main() -> None:
    """Print the status codes and what should not have been; exit code 1 when there is something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, tiny_server(Path(name)) as (url, key):
        start = time.monotonic()
        found = fuzz(url, key, number=options.number, seed=options.seed, secret=name)
        seconds = time.monotonic() - start
        alive = requests.get(f"{url}/livez", timeout=10).status_code
    print(f"{options.number} requests in {seconds:.1f} s: {dict(sorted(found.codes.items()))}; /livez {alive}")
    print(f"{found.num_bystanders} answers to a bystander meanwhile")
    print("\n".join(found.problems) or "nothing that should not be")
    sys.exit(bool(found.problems))


if __name__ == "__main__":
    main()
