"""Files of a user, made wrong in the ways that strangers and tired people find: seeded, one after another."""

import copy
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

NUMBERS = (0, -1, 2**31, 2**64, -(2**70), 10**400, 1e308, -1e-320, 0.5, float("nan"), float("inf"), float("-inf"), True)
TEXTS = (
    *("", " ", "null", "~", "yes", "0x7f", "1_000", "1:30:30", "2024-13-45", "0o17", "1e999", "=", "<<", "-", "%", "@"),
    *(
        "../../../../../../etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "~root",
        "~nobody-here/x",
        "/proc/self/mem",
        "embedded/../..",
        "C:\\x",
    ),
    *("\x1b[2J\x1b]0;owned\x07", "\u202egnp.exe", "a\nb", "a\x00b", "\u0430lpha", "\ufeffnf4", "é" * 300, "x" * 5000),
    *("${HOME}", "$(id)", "`id`", "{{ 7 * 7 }}", "%s%n", "<script>alert(1)</script>", "*", "[" * 40, "!!python/none"),
)
VALUES = (*NUMBERS, *TEXTS, None, [], {}, [[]], [None], {"a": {"b": []}}, [1, "a", {}], ["x"] * 300)
# what stands for a value as it is written, not as it is meant
SPELLINGS = (
    *(
        "!!python/object/apply:os.system ['id']",
        "!!binary //8=",
        "!!timestamp x",
        "!!int x",
        "!!float x",
        "!!set {a, b}",
    ),
    *(
        "!local x",
        "!!omap [a: 1]",
        "&a [*a, *a]",
        "*nobody",
        "2024-02-30",
        "2024-01-01T99:99:99",
        "9" * 6000,
        "0b",
        "0x",
    ),
    *(
        "1" + "_" * 50 + "1",
        "-.inf",
        ".NaN",
        "1e999999",
        "? x",
        "|\n  x",
        ">-\n",
        "'torn",
        '"\\xZZ"',
        '"\\ud800"',
        "[",
        "{",
    ),
    *(
        "%TAG ! x",
        "--- a",
        "...",
        "@x",
        "`x`",
        "\t",
        "59:" * 200 + "1",
        "0" * 4000,
        "= ",
        "!<tag:x> y",
        "[" * 900,
        "{a: " * 900,
    ),
)
Step = str | int
Place = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Mangled:
    """A file that was made wrong: what was done, and its bytes."""

    done: str
    content: bytes


def mangled(source: bytes, draw: random.Random) -> Mangled:
    """One file made from a good one, by one of the ways below; the same draw makes the same."""
    way = draw.choice(WAYS)
    content = way(source, draw)
    if draw.random() < 0.15:
        second = draw.choice(BYTE_WAYS)
        return Mangled(f"{way.__name__}, {second.__name__}", second(content, draw))
    return Mangled(way.__name__, content)


def places(values: object, here: Place = ()) -> Iterator[Place]:
    """Where something stands in plain values."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for step, inner in pairs:
        yield (*here, step)
        yield from places(inner, (*here, step))


def put_wrong_values(values: object, draw: random.Random) -> None:
    """Put values of another kind, or out of all bounds, at places by chance."""
    for _ in range(draw.choice((1, 1, 1, 2, 5, 20))):
        _put(values, draw.choice([*places(values)] or [("name",)]), copy.deepcopy(draw.choice(VALUES)))


def wrong_values(source: bytes, draw: random.Random) -> bytes:
    """Values of another kind, or out of all bounds."""
    values = yaml.safe_load(source) or {}
    put_wrong_values(values, draw)
    return _dump(values)


def wrong_keys(source: bytes, draw: random.Random) -> bytes:
    """Keys that nobody knows, look like one that is known, stand in the wrong section, or are missing."""
    values = yaml.safe_load(source) or {}
    for _ in range(draw.choice((1, 1, 3, 40))):
        place = draw.choice([*places(values)] or [("name",)])
        inner = _at(values, place[:-1])
        if not isinstance(inner, dict):
            continue
        value = inner.pop(place[-1], 1)
        key = str(place[-1])
        look_alike = key.replace("a", "\u0430").replace("e", "\u0435")
        new = draw.choice(
            (key + "s", key.upper(), look_alike, key[::-1], "__class__", "k" * 4000, "", "a.b", "1", "\x1b[31m")
        )
        target = draw.choice((values, inner))
        if draw.random() < 0.8:
            target[new] = value
    return _dump(values)


def wrong_spelling(source: bytes, draw: random.Random) -> bytes:
    """A line whose value is YAML that is refused, torn or expands."""
    lines = source.split(b"\n")
    at = draw.randrange(len(lines))
    key = lines[at].partition(b":")[0] or b"name"
    lines[at] = key + b": " + draw.choice(SPELLINGS).encode("utf-8", "surrogatepass")
    return b"\n".join(lines)


def twice(source: bytes, draw: random.Random) -> bytes:
    """Lines once more, at another place."""
    lines = source.split(b"\n")
    start = draw.randrange(len(lines))
    lines[draw.randrange(len(lines)) : 0] = lines[start : start + draw.choice((1, 1, 4, 50))]
    return b"\n".join(lines)


def deep(source: bytes, draw: random.Random) -> bytes:
    """Something nested deeper than anybody writes."""
    num_levels = draw.choice((33, 200, 1500, 20_000))
    inner = draw.choice(("[" * num_levels, "{a: " * num_levels, "[" * num_levels + "]" * num_levels))
    nested = "".join(f"{' ' * level}a:\n" for level in range(min(num_levels, 900)))
    return source + draw.choice((f"\nextra: {inner}\n", f"\n{nested}", f"\n{'- ' * num_levels}x\n")).encode()


def bomb(source: bytes, draw: random.Random) -> bytes:
    """Aliases that grow tenfold with each line, or a mapping that holds itself."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, draw.choice((2, 9, 30)))]
    return source + "\n".join(draw.choice((lines, ["base: &b", "  <<: *b"], ["a: &a", "  a: *a"]))).encode()


def large(source: bytes, draw: random.Random) -> bytes:
    """More than anybody writes: one long text, many keys, many items, or many lines of comment."""
    size = draw.choice((5_000, 20_000, 300_000))
    return source + draw.choice(
        (
            b"\ndescription: " + b"x" * size,
            b"\n" + b"".join(b"k%d: 1\n" % n for n in range(size // 10)),
            b"\nlanguages: [" + b"x," * (size // 10) + b"]",
            b"\n" + b"# x\n" * (size // 4),
            b"\n" + b" " * size + b"x: 1",
            b"\n" + b"k" * size + b": 1",
        )
    )


def torn(source: bytes, draw: random.Random) -> bytes:
    """The beginning alone."""
    return source[: draw.randrange(len(source) + 1)]


def noise(source: bytes, draw: random.Random) -> bytes:
    """Bytes by chance at some places."""
    content = bytearray(source or b"x")
    for _ in range(draw.choice((1, 3, 30))):
        content[draw.randrange(len(content))] = draw.choice((0, 7, 9, 10, 27, 34, 39, 58, 91, 123, 127, 128, 255))
    return bytes(content)


def encoded(source: bytes, draw: random.Random) -> bytes:
    """The text in another encoding, with a mark at its start, or with other ends of lines."""
    text = source.decode("utf-8", "replace")
    return draw.choice(
        (
            text.encode("utf-16"),
            text.encode("utf-32-be"),
            b"\xef\xbb\xbf" + source,
            text.replace("\n", "\r\n").encode(),
            text.replace("\n", "\r").encode(),
            text.replace(" ", "\u00a0").encode(),
            text.replace("\n", "\u2028").encode(),
            text.encode("latin-1", "replace") + b"\xe9",
            source + b"\x00",
        )
    )


def other(source: bytes, draw: random.Random) -> bytes:
    """No mapping at all, or no YAML."""
    return draw.choice(
        (b"", b"[]", b"x", b"null", b"---\n---\n", b"\x7fELF" + bytes(200), b"PK\x03\x04", b"{}", b"- a\n", b"%")
    )


def special_files(folder: Path) -> list[Path]:
    """What is no file of a user, by the names that one could give it by mistake."""
    made = {name: folder / f"{name}.yaml" for name in ("pipe", "zero", "loop", "folder", "dangling", "huge")}
    os.mkfifo(made["pipe"])
    made["zero"].symlink_to("/dev/zero")
    made["loop"].symlink_to(made["loop"])
    made["folder"].mkdir()
    made["dangling"].symlink_to(folder / "nobody")
    made["huge"].write_bytes(b"description: " + b"x" * 10_000_000)
    beyond = [made["huge"] / "below.yaml", folder / ("n" * 300), Path("/dev/stdin"), Path("/proc/self/mem"), Path()]
    return [*made.values(), *beyond]


BYTE_WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (torn, noise, encoded, twice)
WAYS = (*(wrong_values, wrong_keys, wrong_spelling) * 3, deep, bomb, large, other, *BYTE_WAYS)


def _at(values: object, place: Place) -> object:
    for step in place:
        values = values[step]  # type: ignore[index]
    return values


def _put(values: object, place: Place, value: object) -> None:
    try:
        _at(values, place[:-1])[place[-1]] = value  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        # an earlier value took its place away
        return


def _dump(values: object) -> bytes:
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")
