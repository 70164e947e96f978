"""Many clients ask one name while it moves between adapters every second: is an answer lost, or of two versions?

python bench/flips.py [--requests 10000] [--clients 16] [--versions 3] [--every 1.0] [--base FOLDER]

A server in a process of its own holds a small random base in float32, where a greedy answer in a batch is the one it is
alone. First each prompt is asked alone of each version under a name of its own. Then all clients ask the name that
moves, every other answer as a stream. An answer is lost when it is refused, breaks or does not come; it is mixed when
it is not what the version that it names gives alone, in text, length and end. With two versions a name goes to and fro
between two that stay in memory; with three each move loads one and lets one go. Exit 1 when one is lost or mixed.
"""

import argparse
import contextlib
import itertools
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from endpoint import Answer, Endpoint, ask, endpoint, make_adapters, make_base

NAME = "team"
PROMPTS = (
    "class Cart:\n    def __init__(self", "import os\n\ndef read(path", "for item in items:\n", "# the sum of a list\n",
    "def test_total():\n    assert ", "def price(self, name", "return sorted(", "from pathlib import",
)  # fmt: skip
LENGTHS = (4, 8, 16)
# Questions that tell the versions apart
FEWEST = 8


@dataclass
class Outcome:
    """What the clients saw; problems holds the words of what went wrong."""

    answers: list[Answer] = field(default_factory=list)
    streams: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    dropped: int = 0
    mixed: int = 0


class Clients:
    """They ask num_requests times between them. alone: answers by question, a prompt and a length, and by version."""

    def __init__(self, server: Endpoint, alone: dict, *, num_requests: int) -> None:
        self.outcome = Outcome()
        self.done = threading.Event()
        self._server = server
        self._alone = alone
        self._questions = sorted(alone)
        self._numbers = iter(range(num_requests))
        self._lock = threading.Lock()

    def run(self, num_clients: int) -> None:
        """Ask all, and wait for the end."""
        with ThreadPoolExecutor(num_clients) as pool:
            asking = [pool.submit(self._ask_on) for _ in range(num_clients)]
            for one in asking:
                one.result()
        self.done.set()

    def _ask_on(self) -> None:
        connection = self._server.connection()
        while (number := self._next()) is not None:
            prompt, length = random.Random(number).choice(self._questions)
            try:
                answer = ask(connection, NAME, prompt, max_tokens=length, stream=number % 2 == 0)
            except Exception as error:
                connection.close()
                self._note_lost(number, error)
            else:
                self._note(answer, self._alone[prompt, length], is_stream=number % 2 == 0)
        connection.close()

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def _note_lost(self, number: int, error: Exception) -> None:
        with self._lock:
            self.outcome.dropped += 1
            self.outcome.problems.append(f"request {number}: {error}")

    def _note(self, answer: Answer, alone: dict, *, is_stream: bool) -> None:
        with self._lock:
            self.outcome.answers.append(answer)
            if is_stream:
                self.outcome.streams.append(answer)
            if said(answer) != alone.get(answer.version):
                self.outcome.mixed += 1
                self.outcome.problems.append(f"{answer.version} gave {answer.text!r}, alone {alone}")


def said(answer: Answer) -> tuple[str, str, int]:
    """What must be equal in two answers of one version."""
    return answer.text, answer.finish_reason, answer.num_tokens


def answers_alone(server: Endpoint, names: list[str]) -> dict:
    """Each version's answer to each prompt at each length, one at a time, where no two versions answer alike.

    Raises RuntimeError when there are few: nothing could be seen mixed.
    """
    alone: dict = {}
    for name in names:
        version = server.move(name, name)
        with contextlib.closing(server.connection()) as connection:
            for prompt, length in itertools.product(PROMPTS, LENGTHS):
                answer = ask(connection, name, prompt, max_tokens=length, stream=False)
                alone.setdefault((prompt, length), {})[version] = said(answer)
    apart = {question: found for question, found in alone.items() if len(set(found.values())) == len(names)}
    if len(apart) < FEWEST:
        raise RuntimeError(f"The versions answer {len(apart)} of {len(alone)} questions apart, {FEWEST} are needed.")
    return apart


def move_on(server: Endpoint, names: list[str], clients: Clients, *, every: float) -> list[float]:
    """Move the name every so many seconds until the clients are done; seconds that each move took."""
    seconds = []
    for name in itertools.cycle(names):
        began = time.perf_counter()
        server.move(NAME, name)
        seconds.append(time.perf_counter() - began)
        if clients.done.wait(max(0.0, every - seconds[-1])):
            return seconds
    return seconds


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds at p50, p95 and p99."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{place}": round(1000 * cuts[place - 1], 1) for place in (50, 95, 99)}


def report(clients: Clients, moves: list[float], *, seconds: float) -> dict:
    """The figures as one document."""
    outcome = clients.outcome
    return {
        "answers": len(outcome.answers),
        "dropped": outcome.dropped,
        "mixed": outcome.mixed,
        "by_version": dict(sorted(Counter(answer.version for answer in outcome.answers).items())),
        "moves": len(moves),
        "requests_per_second": round(len(outcome.answers) / seconds, 1),
        "tokens_per_second": round(sum(answer.num_tokens for answer in outcome.answers) / seconds, 1),
        "latency_ms": quantiles([answer.seconds for answer in outcome.answers]),
        "first_token_ms": quantiles([answer.first_seconds for answer in outcome.streams]),
        "move_ms": quantiles(moves),
        "problems": outcome.problems[:10],
    }


def measure(server: Endpoint, names: list[str], args: argparse.Namespace) -> dict:
    """Ask alone, then ask all."""
    alone = answers_alone(server, names)
    server.move(NAME, names[0])
    for name in names:
        server.unload(name)
    clients = Clients(server, alone, num_requests=args.requests)
    began = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move_on, server, names, clients, every=args.every)
        clients.run(args.clients)
        seconds = time.perf_counter() - began
        return report(clients, moving.result(), seconds=seconds)


def main() -> int:
    from finetune.guard.offline import go_offline

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--versions", type=int, choices=(2, 3), default=3)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--base", type=Path, help="None: a small one of random weights")
    args = parser.parse_args()
    go_offline()
    names = [f"v{number}" for number in range(args.versions)]
    with tempfile.TemporaryDirectory() as scratch:
        base, adapters = args.base or make_base(Path(scratch) / "base"), Path(scratch) / "adapters"
        make_adapters(base, adapters, names)
        with endpoint(base, adapters) as server:
            found = measure(server, names, args)
    print(json.dumps(found, indent=2))
    return 1 if found["dropped"] or found["mixed"] or found["answers"] != args.requests else 0


if __name__ == "__main__":
    sys.exit(main())
