"""What an strace log says about leaving: each call that names an address beyond this machine, by program."""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

TRACED = ("connect", "sendto", "sendmsg", "sendmmsg", "socket", "bind", "io_uring_setup")
# kinds that end in this machine's kernel or in a process beside; AF_UNSPEC takes a socket's peer away
LOCAL_KINDS = frozenset({"AF_UNIX", "AF_NETLINK", "AF_UNSPEC", "AF_ALG"})
INTERNET_KINDS = frozenset({"AF_INET", "AF_INET6"})
# DNS, also over TLS: on loopback a forwarder listens there, so the question leaves all the same
NAME_PORTS = frozenset({53, 853})
RESOLVERS = ("/run/systemd/resolve/", "/run/nscd/", "/var/run/nscd/", "/run/avahi-daemon/", "/var/run/avahi-daemon/")
UNREADABLE = "an address that could not be read"
UNKNOWN_LINE = "a line of the trace that could not be read"

# a program names itself, in 15 bytes: too few to feign a time
LINE = re.compile(r"(?P<process>\d+)(?:<(?P<program>.*?)>)? +(?P<at>\d{10}\.\d{6}) (?P<rest>.*)")
RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
UNFINISHED = " <unfinished ...>"
QUOTED = r'"(?:[^"\\]|\\.)*"'
ADDRESS = re.compile(r"\{sa_family=(?P<kind>\w+)(?P<fields>(?:" + QUOTED + r'|[^}"])*)\}')
IPV4 = re.compile(r'sin_addr=inet_addr\("([^"]+)"\)')
IPV6 = re.compile(r'inet_pton\(AF_INET6, "([^"]+)"')
PORT = re.compile(r"sin6?_port=htons\((\d+)\)")
PATH = re.compile(r"sun_path=(@?" + QUOTED + ")")
RESULT = re.compile(r"\) += (-?\d+|\?)(?: (E\w+))?[^=]*$")


@dataclass(frozen=True, slots=True)
class Call:
    """One traced call. program is the name of the process; result the error's name, or "done"; at in Unix seconds."""

    program: str
    process: int
    name: str
    text: str
    result: str
    at: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that would have left: to names the address and port, or says what makes it one."""

    program: str
    process: int
    call: str
    to: str
    result: str
    at: float


@dataclass(slots=True)
class Seen:
    """What a trace holds: attempts, calls to loopback by address, unix sockets of other processes that were reached.

    own_sockets are those that the command's processes made themselves.
    """

    attempts: list[Attempt] = field(default_factory=list)
    num_calls: int = 0
    loopback: Counter[str] = field(default_factory=Counter)
    unix_sockets: Counter[str] = field(default_factory=Counter)
    own_sockets: set[str] = field(default_factory=set)


def read_calls(lines: Iterable[str]) -> Iterator[Call]:
    """The calls of a log; one that another process interrupted is put together again."""
    pending: dict[str, Call] = {}
    for line in lines:
        match = LINE.match(line.rstrip("\n"))
        if match is None:
            yield Call("?", 0, UNKNOWN_LINE, line.strip(), "not known", 0.0)
            continue
        process, text = match["process"], match["rest"]
        begun = pending.pop(process, None)
        if begun and RESUMED.match(text):
            text = begun.text + RESUMED.sub("", text, count=1)
        elif begun:
            yield begun
        call = _call(match, text.removesuffix(UNFINISHED))
        if text.endswith(UNFINISHED):
            pending[process] = call
        else:
            yield call
    yield from pending.values()


def _call(line: re.Match[str], text: str) -> Call:
    result = RESULT.search(text)
    ending = "not known" if result is None or result[1] == "?" else result[2] or "done"
    name = text.partition("(")[0]
    return Call(line["program"] or "?", int(line["process"]), name, text, ending, float(line["at"]))


def examine(lines: Iterable[str]) -> Seen:
    """Judge each call of a log."""
    seen = Seen()
    for call in read_calls(lines):
        if call.name == UNKNOWN_LINE:
            seen.attempts.append(Attempt(call.program, call.process, "?", UNKNOWN_LINE, call.result, call.at))
        if call.name in TRACED:
            seen.num_calls += 1
            for place in _places(call, seen):
                seen.attempts.append(Attempt(call.program, call.process, call.name, place, call.result, call.at))
    return seen


def _places(call: Call, seen: Seen) -> Iterator[str]:
    """Where beyond this machine a call would go."""
    if call.name == "io_uring_setup":
        yield "io_uring, of whose operations a trace sees nothing"
        return
    if call.name == "socket":
        kind = call.text.removeprefix("socket(").partition(",")[0]
        if kind not in LOCAL_KINDS | INTERNET_KINDS:
            yield f"a socket of kind {kind}"
        return
    addresses = list(ADDRESS.finditer(call.text))
    if call.name == "bind":
        seen.own_sockets.update(path for address in addresses if (path := _path(address["fields"])))
        return
    if call.name == "connect" and not addresses:
        yield UNREADABLE
    for address in addresses:
        place = _beyond(address["kind"], address["fields"], call=call, seen=seen)
        if place:
            yield place


def _beyond(kind: str, fields: str, *, call: Call, seen: Seen) -> str | None:
    """The place that an address names, if it is not here; what is here is counted."""
    if kind in INTERNET_KINDS:
        found, port = IPV4.search(fields) or IPV6.search(fields), PORT.search(fields)
        if found is None or port is None:
            return UNREADABLE
        place = f"{found[1]} port {port[1]}"
        if not _is_loopback(found[1]) or int(port[1]) in NAME_PORTS:
            return place
        seen.loopback[found[1]] += 1
        return None
    if kind == "AF_UNIX" and (path := _path(fields)) and path not in seen.own_sockets and call.result == "done":
        seen.unix_sockets[path] += 1
        return f"the resolver at {path}" if path.startswith(RESOLVERS) else None
    return None if kind in LOCAL_KINDS else f"an address of kind {kind}"


def _path(fields: str) -> str | None:
    """The path of a unix socket; an abstract one begins with @."""
    found = PATH.search(fields)
    return found[1].replace('"', "") if found else None


def _is_loopback(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
