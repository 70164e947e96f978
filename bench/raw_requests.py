"""Requests byte by byte, wrong in a way each: seeded, one after another. bench/fuzz_http.py sends them."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from bench.mangle import TEXTS, put_wrong_values

QUESTION = [{"role": "user", "content": "def add(a, b):"}]
BODIES: dict[str, dict[str, object]] = {
    "/v1/chat/completions": {"model": "tiny", "messages": QUESTION, "max_tokens": 4, "stream": True, "stop": ["x"]},
    "/v1/completions": {"model": "tiny", "prompt": "def", "suffix": "x", "max_tokens": 4, "temperature": 0.5, "n": 1},
    "/infill": {"input_prefix": "def", "input_suffix": "x", "n_predict": 4},
    "/v1/votes": {"prompt": "a", "choice": "left"},
    "/v1/load_lora_adapter": {"lora_name": "shop", "lora_path": "nobody"},
    "/v1/unload_lora_adapter": {"lora_name": "nobody"},
    "/v1/adapters/alias": {"alias": "shop", "adapter": "nobody"},
    "/v1/adapters/rollback": {"alias": "nobody"},
    "/v1/adapters/split": {"alias": "nobody", "to": "nobody", "share": 0.5},
}
GETS = ("/livez", "/readyz", "/metrics", "/v1/models", "/v1/adapters", "/v1/models/a", "/v1/adapters/a/history")
PATHS = (
    *(
        "/../../etc/passwd",
        "/v1/adapters/..%2f..%2f..%2fetc/files/passwd",
        "/v1/adapters/a/files/..%2F..%2Fetc%2Fpasswd",
    ),
    *(
        "/v1/models/%00",
        "/v1/models/%zz",
        "/v1/models/%ff%fe",
        "/v1/models/" + "a" * 60_000,
        "//v1/models",
        "/v1//models",
    ),
    *("/v1/models/a%0d%0aX-Own:%201", "/v1/models/..;/", "/v1\\models", "*", "http://elsewhere.example/v1/models", ""),
    *(
        "/v1/models?" + "a=b&" * 5000,
        "/v1/models#x",
        "/" + "../" * 3000,
        "/v1/adapters/\xff/history",
        "/playground/%2e%2e/app.py",
    ),
    *(
        "/v1/adapters/%1b%5b2J/history",
        "/v1/adapters/a%0ab/files",
        "/V1/MODELS",
        "/v1/models/",
        "/v1/models/a/b/c",
        "/%2e%2e/x",
    ),
)
TEXT_BODIES = (
    *(
        b"",
        b"null",
        b"[]",
        b'""',
        b"0",
        b"{",
        b"{]",
        b'{"model":',
        b"\xff\xfe",
        b"\x00" * 100,
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
    ),
    *(
        b'{"a":' * 50_000,
        b'{"model": "tiny", "model": "x", "messages": []}',
        b'{"max_tokens": ' + b"9" * 6000 + b"}",
        b"1e999",
    ),
    *(
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": NaN}',
        b"{}" * 50,
        b"true",
    ),
    *(
        b'{"model": "tiny", "prompt": "' + b"x" * 300_000 + b'"}',
        b'{"' + b"k" * 50_000 + b'": 1}',
        b"\x1f\x8b\x08\x00",
        b"a=b",
    ),
    *(
        b'{"model": "tiny", "prompt": ' + b"[" + b"1," * 9000 + b"1]}",
        b'{"__proto__": {"a": 1}}',
        b'{"model": "a\\u0000b\\nc"}',
    ),
)
LENGTHS = (
    "-1",
    "+2",
    "0x2",
    "2, 3",
    "9" * 30,
    "9" * 6000,
    "\xb2",
    "",
    " 2 ",
    "2\r\nContent-Length: 3",
    "1e3",
    "2147483648",
    "5000000",
)
CHUNKS = (
    *(
        b"ffffffffffffffff\r\nx",
        b"-1\r\nx\r\n0\r\n\r\n",
        b"g\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"2;" + b"x" * 90_000 + b"\r\n{}\r\n0\r\n\r\n",
    ),
    *(
        b"2\r\n{}\r\n0\r\nContent-Length: 5\r\nX: y\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n",
        b"2\n{}\n0\n\n",
        b"\r\n\r\n",
    ),
    *(
        b"0\r\n" + b"X: y\r\n" * 9000 + b"\r\n",
        b"1\r\n{\r\n" * 3000 + b"0\r\n\r\n",
        b"00000000000000000002\r\n{}\r\n0\r\n\r\n",
    ),
)
HEADERS = (
    *(
        b"no colon here",
        b"X : y",
        b": y",
        b"X: \x00",
        b"X: a\r\n b",
        b"X: \xff\xfe\x1b[2J",
        b"X: " + b"y" * 100_000,
        b"\x00: y",
    ),
    *(
        b"\r\n".join(b"X-%d: y" % n for n in range(5000)),
        b"Host: elsewhere.example",
        b"Host: [::1",
        b"Host: 127.0.0.1:99999999",
    ),
    *(
        b"Expect: 100-continue",
        b"Expect: nonsense",
        b"Upgrade: websocket\r\nConnection: Upgrade",
        b"Content-Encoding: gzip",
    ),
    *(
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA",
        b"Range: bytes=0-,5-1",
        b"Cookie: " + b"a;" * 9000,
    ),
    *(
        b"Content-Type: text/plain",
        b"Content-Type: multipart/form-data; boundary=" + b"-" * 3000,
        b"Content-Type: \xff",
    ),
    *(
        b"Authorization: Bearer",
        b"Authorization: Basic Og==",
        b"Authorization: Bearer \xff",
        b"Authorization: Bearer " + b"x" * 30_000,
    ),
    *(
        b"Authorization: Bearer a.b.c",
        b"Authorization: Bearer eyJhbGciOiJub25lIn0.e30.",
        b"Origin: null",
        b"X-HTTP-Method-Override: DELETE",
    ),
)
FIRST_LINES = (
    *(
        b"GET",
        b"GET /",
        b"GET / HTTP/0.9",
        b"GET / HTTP/9.9",
        b"get /livez HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ),
    *(
        b"DELETE /v1/models HTTP/1.1",
        b"TRACE / HTTP/1.1",
        b"CONNECT elsewhere.example:443 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"  GET / HTTP/1.1",
    ),
    *(
        b"GET /livez\x00 HTTP/1.1",
        b"GET\t/livez\tHTTP/1.1",
        b"M" * 70_000 + b" / HTTP/1.1",
        b"GET /livez HTTP/1.1 x",
        b"\r\n\r\n\r\nGET / HTTP/1.1",
    ),
)


@dataclass(frozen=True, slots=True)
class Raw:
    """What is sent: pieces one after the other. whole: an answer is due; else the sender leaves when all is sent.

    reset: it goes without a word, as a machine that is switched off.
    """

    done: str
    pieces: tuple[bytes, ...]
    whole: bool = True
    reset: bool = False


def request(line: bytes, *headers: bytes, body: bytes | None = None, key: str) -> bytes:
    """A request that is right but for what it is given."""
    names = {header.partition(b":")[0].lower() for header in headers}
    usual = {
        b"host": b"Host: localhost",
        b"authorization": b"Authorization: Bearer " + key.encode(),
        b"connection": b"Connection: close",
    }
    if body is not None and b"transfer-encoding" not in names:
        usual |= {
            b"content-length": b"Content-Length: %d" % len(body),
            b"content-type": b"Content-Type: application/json",
        }
    lines = [line, *(text for name, text in usual.items() if name not in names), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def post(path: str) -> bytes:
    """The first line of a request with a body."""
    return f"POST {path} HTTP/1.1".encode("latin-1")


def wrong_body(draw: random.Random, key: str) -> Raw:
    """A body in JSON whose values are wrong, or that is no JSON of a request."""
    path = draw.choice(list(BODIES))
    if draw.random() < 0.4:
        return Raw("text", (request(post(path), body=draw.choice(TEXT_BODIES), key=key),))
    values = json.loads(json.dumps(BODIES[path]))
    put_wrong_values(values, draw)
    return Raw("values", (request(post(path), body=json.dumps(values).encode(), key=key),))


def wrong_path(draw: random.Random, key: str) -> Raw:
    """A path that leads out of the routes, or that cannot be read."""
    path = draw.choice((*PATHS, *GETS))
    if draw.random() < 0.3:
        path = f"/v1/models/{quote(draw.choice(TEXTS))}"
    return Raw(f"path {path[:40]}", (request(f"GET {path} HTTP/1.1".encode("latin-1"), key=key),))


def wrong_header(draw: random.Random, key: str) -> Raw:
    """A header that is malformed, too long, or asks for what is not there."""
    header = draw.choice(HEADERS)
    line, body = draw.choice(((b"GET /v1/models HTTP/1.1", None), (post("/v1/completions"), b"{}")))
    return Raw(f"header {header[:40]!r}", (request(line, header, body=body, key=key),))


def wrong_line(draw: random.Random, key: str) -> Raw:
    """A first line that is none; what is no end of a request is not waited for."""
    line = draw.choice(FIRST_LINES)
    return Raw(f"line {line[:40]!r}", (request(line, key=key),), whole=False)


def wrong_length(draw: random.Random, key: str) -> Raw:
    """A length that lies: the body ends before it, goes on after it, or it is no number."""
    length = draw.choice((*LENGTHS, "1", "7", "100"))
    header = b"Content-Length: " + length.encode("latin-1")
    return Raw(
        f"length {length[:20]!r}", (request(post("/v1/completions"), header, body=b"{}\r\nx", key=key),), whole=False
    )


def wrong_chunks(draw: random.Random, key: str) -> Raw:
    """Chunks that lie, with a length beside them or not."""
    chunks = draw.choice(CHUNKS)
    headers = [
        draw.choice(
            (b"Transfer-Encoding: chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: gzip, chunked")
        )
    ]
    if draw.random() < 0.2:
        headers.append(b"Content-Length: 2")
    whole = request(post("/v1/completions"), *headers, body=chunks, key=key)
    return Raw(f"chunks {chunks[:20]!r}", (whole,), whole=False)


def many(draw: random.Random, key: str) -> Raw:
    """Several requests in one piece, good and bad."""
    good = request(b"GET /v1/models HTTP/1.1", b"Connection: keep-alive", key=key)
    last = wrong_body(draw, key).pieces[0]
    return Raw("pipeline", (good * draw.choice((1, 5, 60)) + last,))


def slow(draw: random.Random, key: str) -> Raw:
    """A request letter by letter, of which the rest never comes, or one that is torn anywhere."""
    whole = wrong_body(draw, key).pieces[0]
    at = draw.randrange(1, len(whole))
    start = max(0, at - 20)
    pieces = (whole[:start], *(whole[n : n + 1] for n in range(start, at)))
    return Raw(f"torn at {at}", pieces, whole=False, reset=draw.random() < 0.3)


def left(draw: random.Random, key: str) -> Raw:
    """A stream that its reader leaves at once."""
    body = json.dumps({**BODIES["/v1/chat/completions"], "max_tokens": 32}).encode()
    return Raw(
        "left", (request(post("/v1/chat/completions"), body=body, key=key),), whole=False, reset=draw.random() < 0.7
    )


WAYS: tuple[Callable[[random.Random, str], Raw], ...] = (
    *(wrong_body, wrong_body, wrong_body, wrong_path, wrong_path, wrong_header, wrong_header),
    *(wrong_line, wrong_length, wrong_chunks, many, slow, left),
)
