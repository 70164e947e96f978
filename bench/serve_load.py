"""What loading adapters does to those who are answered meanwhile, and to the server's memory.

python bench/serve_load.py [--probes 200] [--cycles 1000] [--small]

A server in a process of its own holds a random base of about 150M parameters (that of bench/serve.py) in float32, and
adapters of rank 16 on all its maps. Eight streams run all the time. A ninth client asks for one token again and again,
in turns of ten while nothing is loaded and of ten while an adapter is loaded and let go without a pause: time to its
first token in both. Then an adapter is loaded, asked once and let go, 50 times to warm up and --cycles times: memory
before and after. --small takes a base of two layers, to see that this script works.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from endpoint import Endpoint, ask, endpoint, make_adapters, make_base
from flips import quantiles

STREAMS, TURN, WARM_UP = 8, 10, 50
PROMPT = "def total(cart, discount):\n"
STREAM_TOKENS = 64
MIB = 1 << 20


def make_large_base(folder: Path) -> Path:
    """The base of bench/serve.py, with the tokenizer of the embedded one, which has as many tokens."""
    from serve import build

    from finetune.embedded import BASE_FOLDER

    shutil.copytree(BASE_FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    import torch

    build(torch.bfloat16).save_pretrained(folder)
    return folder


class Loads:
    """Loads and lets go of an adapter in a thread of its own while it is on."""

    def __init__(self, server: Endpoint) -> None:
        self.num_loads = 0
        self._server = server
        self._on = threading.Event()
        self._ended = threading.Event()

    @contextlib.contextmanager
    def going_on(self):
        """Load all the time while the block runs."""
        with ThreadPoolExecutor(1) as pool:
            self._on.set()
            loading = pool.submit(self._run)
            try:
                yield
            finally:
                self._on.clear()
                loading.result()

    def _run(self) -> None:
        while self._on.is_set():
            self._server.move("guest", "v1")
            self._server.unload("guest")
            self.num_loads += 1


def keep_streaming(server: Endpoint, ended: threading.Event, number: int) -> int:
    """One stream after the other until told to end; how many."""
    count = 0
    with contextlib.closing(server.connection()) as connection:
        while not ended.is_set():
            prompt = f"{PROMPT}# {number}\n"
            ask(connection, "resident", prompt, max_tokens=STREAM_TOKENS, stream=True, temperature=1.0)
            count += 1
    return count


def first_tokens(server: Endpoint, num_probes: int) -> dict:
    """Milliseconds to the first token beside eight streams, without and with loads."""
    server.move("resident", "v0")
    ended, loads = threading.Event(), Loads(server)
    quiet: list[float] = []
    loading: list[float] = []
    with ThreadPoolExecutor(STREAMS) as pool, contextlib.closing(server.connection()) as connection:
        streams = [pool.submit(keep_streaming, server, ended, number) for number in range(STREAMS)]
        try:
            while len(loading) < num_probes:
                quiet += [_first_token(connection) for _ in range(TURN)]
                with loads.going_on():
                    loading += [_first_token(connection) for _ in range(TURN)]
        finally:
            ended.set()
        for stream in streams:
            stream.result()
    found = {"quiet": quantiles(quiet), "while_loading": quantiles(loading), "loads": loads.num_loads}
    return {**found, "p99_rise_ms": round(found["while_loading"]["p99"] - found["quiet"]["p99"], 1)}


def _first_token(connection) -> float:
    return ask(connection, "resident", PROMPT, max_tokens=1, stream=True).first_seconds


def cycles(server: Endpoint, number: int) -> dict:
    """Memory around so many loads that are asked once and let go."""
    with contextlib.closing(server.connection()) as connection:
        for _ in range(WARM_UP):
            _cycle(server, connection)
        before = server.memory
        readings = []
        for _ in range(number):
            _cycle(server, connection)
            readings.append(server.memory)
    return {
        "cycles": number,
        "memory_before_mib": round(before / MIB, 1),
        "memory_after_mib": round(readings[-1] / MIB, 1),
        "memory_at_most_mib": round(max(readings) / MIB, 1),
        "growth_percent": round(100 * (readings[-1] / before - 1), 2),
    }


def _cycle(server: Endpoint, connection) -> None:
    server.move("guest", "v1")
    ask(connection, "guest", PROMPT, max_tokens=1, stream=False)
    server.unload("guest")


def load_phases(server: Endpoint) -> dict:
    """Mean milliseconds of each phase of all loads, by the server's own measures."""
    readings = dict(line.rsplit(" ", 1) for line in server.get("/metrics").splitlines() if not line.startswith("#"))
    name = "finetune_adapter_load_seconds"

    def mean(phase):
        total, count = (float(readings[f'{name}_{part}{{phase="{phase}"}}']) for part in ("sum", "count"))
        return round(1000 * total / count, 1)

    return {phase: mean(phase) for phase in ("check", "attach", "probe")}


def main() -> int:
    from finetune.guard.offline import go_offline

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    go_offline()
    with tempfile.TemporaryDirectory() as scratch:
        base = (make_base if args.small else make_large_base)(Path(scratch) / "base")
        adapters = Path(scratch) / "adapters"
        make_adapters(base, adapters, ["v0", "v1"])
        with endpoint(base, adapters) as server:
            found = {"first_token_ms": first_tokens(server, args.probes), **cycles(server, args.cycles)}
            found["load_ms"] = load_phases(server)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
