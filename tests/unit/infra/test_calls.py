"""What infra/egress/calls.py makes of strace's lines, also of those that no process here would write."""

import importlib.util
import sys
from pathlib import Path

import pytest

PLACE = Path(__file__).resolve().parents[3] / "infra" / "egress" / "calls.py"
START = "7<git> 1790000000.000001 "


@pytest.fixture(scope="module")
def calls():
    spec = importlib.util.spec_from_file_location("egress_calls", PLACE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def places(calls, *rests: str) -> list[str]:
    return [attempt.to for attempt in calls.examine(START + rest for rest in rests).attempts]


@pytest.mark.parametrize(
    "rest",
    [
        'connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
        'connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.9.9.9")}, 16) = 0',
        'connect(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", '
        "&sin6_addr), sin6_scope_id=0}, 28) = -1 ECONNREFUSED (Connection refused)",
        'connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)',
        'connect(3, {sa_family=AF_UNSPEC, sa_data="\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0"}, 16) = 0',
        'sendto(4, [{nlmsg_len=40}, ""...], 40, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 40',
        'sendto(5, ""..., 12, MSG_NOSIGNAL, NULL, 0) = 12',
        "socket(AF_INET6, SOCK_DGRAM, IPPROTO_IP) = 3",
        "+++ exited with 0 +++",
    ],
)
def test_what_stays_here_is_no_attempt(calls, rest):
    assert places(calls, rest) == []


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        ('connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("10.0.0.7")}, 16) = -1 EINPROGRESS '
         "(Operation now in progress)", "10.0.0.7 port 443"),
        ('connect(3, {sa_family=AF_INET6, sin6_port=htons(9), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, '
         '"::ffff:10.0.0.7", &sin6_addr), sin6_scope_id=0}, 28) = 0', "::ffff:10.0.0.7 port 9"),
        ('connect(3, {sa_family=AF_INET6, sin6_port=htons(9), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "fe80::1", '
         '&sin6_addr), sin6_scope_id=if_nametoindex("eth0")}, 28) = 0', "fe80::1 port 9"),
        ('sendto(3, ""..., 9, 0, {sa_family=AF_INET, sin_port=htons(853), sin_addr=inet_addr("127.0.0.1")}, 16) = 9',
         "127.0.0.1 port 853"),
        ('sendmmsg(3, [{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}}}, '
         '{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("10.0.0.8")}}}], 2, 0) = 2',
         "10.0.0.8 port 9"),
        ('connect(3, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0',
         "the resolver at /run/systemd/resolve/io.systemd.Resolve"),
        ("connect(3, {sa_family=AF_VSOCK, svm_cid=VMADDR_CID_HOST, svm_port=0x9, svm_flags=0}, 16) = 0",
         "an address of kind AF_VSOCK"),
        ("connect(3, {sa_family=0x2d /* AF_??? */, sa_data=\"\"}, 16) = 0", "an address of kind 0x2d"),
        ("connect(3, 0x7ffc0, 16) = -1 EFAULT (Bad address)", "an address that could not be read"),
        ('connect(3, {sa_family=AF_INET, sa_data="\\t\\0"}, 4) = -1 EINVAL (Invalid argument)',
         "an address that could not be read"),
        ("socket(AF_PACKET, SOCK_RAW, htons(0x3 /* ETH_P_ALL */)) = -1 EPERM (Operation not permitted)",
         "a socket of kind AF_PACKET"),
        ("socket(0x2d /* AF_??? */, SOCK_RAW, 0) = 3", "a socket of kind 0x2d /* AF_??? */"),
        ("io_uring_setup(4, {flags=0}) = 3", "io_uring, of whose operations a trace sees nothing"),
    ],
)  # fmt: skip
def test_what_would_leave_is_an_attempt(calls, rest, place):
    assert places(calls, rest) == [place]


def test_a_call_that_another_interrupts_counts_once_and_with_its_result(calls):
    to = '{sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("10.0.0.9")}, 16'
    local = 'connect(4, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")}, 16'
    seen = calls.examine(
        [
            f"7<git> 1790000000.000000 connect(3, {to} <unfinished ...>\n",
            f"8<curl> 1790000000.000001 {local} <unfinished ...>\n",
            "7<git> 1790000000.000002 <... connect resumed>) = -1 ETIMEDOUT (Connection timed out)\n",
            "8<curl> 1790000000.000003 <... connect resumed>) = 0\n",
        ]
    )
    assert [(one.program, one.process, one.to, one.result) for one in seen.attempts] == [
        ("git", 7, "10.0.0.9 port 9", "ETIMEDOUT")
    ]
    assert (seen.num_calls, seen.loopback) == (2, {"127.0.0.1": 1})


def test_a_call_whose_end_is_missing_counts(calls):
    """The process was killed in it; or its number went to another process; or the address came with the end."""
    to = '{sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("10.0.0.9")}'
    assert places(calls, f"connect(3, {to}, 16 <unfinished ...>", "socket(AF_INET, SOCK_DGRAM, 0) = 3") == [
        "10.0.0.9 port 9"
    ]
    assert places(calls, f"connect(3, {to}, 16 <unfinished ...>") == ["10.0.0.9 port 9"]
    late = f"<... sendmmsg resumed>[{{msg_hdr={{msg_name={to}}}}}], 1, 0) = 1"
    assert places(calls, "sendmmsg(3,  <unfinished ...>", late) == ["10.0.0.9 port 9"]


def test_sockets_that_the_command_made_are_its_own(calls):
    lines = [
        'bind(3, {sa_family=AF_UNIX, sun_path="/tmp/own"}, 11) = 0',
        'connect(4, {sa_family=AF_UNIX, sun_path="/tmp/own"}, 11) = 0',
        'connect(4, {sa_family=AF_UNIX, sun_path="/run/docker.sock"}, 19) = 0',
        'bind(5, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("0.0.0.0")}, 16) = 0',
    ]
    seen = calls.examine(START + line for line in lines)
    assert (seen.attempts, seen.unix_sockets) == ([], {"/run/docker.sock": 1})


def test_a_programs_name_hides_nothing(calls):
    to = 'connect(3, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("10.0.0.9")}, 16) = 0'
    for name in ("a> 1.000000 b", "a> 1790000000.", "+++", "", "x y", "<>"):
        assert len(calls.examine([f"7<{name}> 1790000000.000000 {to}"]).attempts) == 1, name


def test_a_line_that_is_none_counts(calls):
    seen = calls.examine(["b> connect(3, {sa_family=AF_INET}, 16) = 0\n"])
    assert [one.to for one in seen.attempts] == ["a line of the trace that could not be read"]
