#!/usr/bin/env python3
"""Run a command where only loopback exists, count its attempts to leave at the system calls, and keep the evidence.

  infra/egress/trace.py --out DIR COMMAND...   the five planted attempts, then the command
  infra/egress/trace.py --out DIR --self-test  the planted attempts alone

DIR gets report.json, report.txt, and the traces that they were read from. Ends with the command's own exit code;
with 120 where an attempt was seen, whatever the command said; with 125 where nothing can be proven on this machine.
Needs Linux, strace and bubblewrap. What this sees and what it does not: docs/egress.md.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from calls import TRACED, Attempt, Seen, examine
from evidence import Order, Report, SelfTest, digests, judge, machine, now, read_order
from planted import PLANTED, PLANTED_HERE
from room import Room, clean_room, find

SHOWN = 20


def main() -> int:
    order = read_order(__doc__ or "")
    with clean_room() as room:
        tested = self_test(room, trace=order.folder / "planted.trace")
        return observe(room, order, tested=tested) if order.command else 0


def traced(room: Room, command: Sequence[str], *, trace: Path, stdout: int | None = None) -> tuple[int, bytes]:
    """Run command in the room, with loopback alone; its exit code, and its output where stdout is a pipe."""
    watch = [
        # -s 0: of what is sent, nothing is kept; -Y: each line names its program
        *(find("strace"), "-f", "-Y", "--seccomp-bpf", "-qq", "-ttt", "-v", "-s", "0"),
        *("-e", f"trace={','.join(TRACED)}", "-e", "signal=none", "-o", str(trace)),
    ]
    inside = room.command(command, options=["--unshare-net"])
    done = subprocess.run([*watch, *inside], check=False, env=room.environment, stdin=subprocess.DEVNULL, stdout=stdout)
    return done.returncode, done.stdout or b""


def seen_in(trace: Path) -> Seen:
    with trace.open(errors="replace") as lines:
        return examine(lines)


def self_test(room: Room, *, trace: Path) -> SelfTest:
    """See that each planted attempt is caught; ends where one is not."""
    _, printed = traced(room, [sys.executable, str(PLANTED_HERE)], trace=trace, stdout=subprocess.PIPE)
    places = [attempt.to for attempt in seen_in(trace).attempts]
    caught = {
        name: any(place.endswith(f"{one.address or ''} port {one.port}") for place in places)
        for name, one in PLANTED.items()
    }
    return judge(printed, caught)


def observe(room: Room, order: Order, *, tested: SelfTest) -> int:
    """Run the command and write the report; what to end with."""
    trace, started = order.folder / "command.trace", now()
    exit_code, _ = traced(room, order.command, trace=trace)
    seen = seen_in(trace)
    return Report(
        instrument="strace, in a network namespace with loopback alone",
        command=order.command,
        environment=room.environment,
        exit_code=exit_code,
        started=started,
        ended=now(),
        attempts=[asdict(attempt) for attempt in seen.attempts],
        attempt_lines=_lines(seen.attempts),
        figures={
            "calls": seen.num_calls,
            "to_loopback": dict(seen.loopback),
            "sockets_of_others": dict(seen.unix_sockets),
        },
        self_test=tested,
        files=digests(order.folder / "planted.trace", trace),
        machine=machine("strace", "bwrap"),
    ).write(order.folder)


def _lines(attempts: Sequence[Attempt]) -> list[str]:
    """One line for each program, call and place, the most frequent first."""
    kinds = Counter((one.program, one.call, one.to, one.result) for one in attempts)
    lines = [
        f"{count} x {program}: {call}, {to}: {result}"
        for (program, call, to, result), count in kinds.most_common(SHOWN)
    ]
    return [*lines, f"and {len(kinds) - SHOWN} other kinds"] if len(kinds) > SHOWN else lines


if __name__ == "__main__":
    sys.exit(main())
