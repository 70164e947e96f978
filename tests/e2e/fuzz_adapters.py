"""Spoil an adapter in seeded ways, and see that each is refused in words, or is the same adapter still.

Each is checked as a server checks it: with and without a policy, and, where it is taken, copied as what is served is.
`python -m tests.e2e.fuzz_adapters 1000 7` spoils 1,000 from seed 7 on, prints what was refused why, and ends with 1 at
the first that was neither. Half of them have a manifest that was made to fit, as one who forges an adapter makes it.
"""

import collections
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from finetune.adapters.sign import sign_adapter
from finetune.contracts.adapter import AdapterManifest, Quantization
from finetune.contracts.adapter_files import read_manifest, write_manifest
from finetune.contracts.errors import PlatformError
from finetune.contracts.io import digest_file, digest_json, digest_text
from finetune.contracts.trust import TrustFile
from serving.adapters.store import AdapterStore
from serving.engines.base import EngineDescription
from tests.unit.bare_adapters import BASE, save_bare_adapter

WEIGHTS, CONFIG, MANIFEST, SIGNATURE = (
    "adapter_model.safetensors", "adapter_config.json", "manifest.json", "signature.json",
)  # fmt: skip
FILES = (WEIGHTS, CONFIG, MANIFEST, SIGNATURE)
DEADLINE_SECONDS = 5.0
NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 63, 10**400, 1.5, float("nan"), float("inf"), "", "../../../outside/canary", "/etc/passwd",
    "a/b", "\x00", "\x1b[2J", "x" * 5000, [], {}, [[[]]], {"__class__": "os.system"}, "NF4", ["q_proj", "q_proj"],
)  # fmt: skip
Spoil = Callable[[Path, random.Random], None]


class TooSlowError(BaseException):
    """Nothing of the product may catch it."""


def flip(folder: Path, draw: random.Random) -> None:
    path = folder / draw.choice(FILES)
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice((1, 1, 1, 8))):
        place = draw.randrange(len(content) * 8)
        content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


def cut(folder: Path, draw: random.Random) -> None:
    path = folder / draw.choice(FILES)
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def pad(folder: Path, draw: random.Random) -> None:
    with (folder / draw.choice(FILES)).open("ab") as stream:
        if draw.random() < 0.1:
            # a hole: it is large, and takes no place
            stream.truncate(1 << 40)
        else:
            stream.write(draw.randbytes(draw.randrange(1, 64)))


def swap(folder: Path, draw: random.Random) -> None:
    one, other = draw.sample(FILES, 2)
    contents = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / other).write_bytes(contents[0])
    (folder / one).write_bytes(contents[1])


def rename(folder: Path, draw: random.Random) -> None:
    name = draw.choice(("weights.safetensors", "adapter_model.bin", ".hidden.json", "a b.json", "Manifest.json", "x"))
    (folder / draw.choice(FILES)).rename(folder / name)


def remove(folder: Path, draw: random.Random) -> None:
    (folder / draw.choice(FILES)).unlink()


def add(folder: Path, draw: random.Random) -> None:
    name = draw.choice(
        ("training_args.bin", "x.pkl", "x.py", "more.json", "README.md", ".x.json", "x.safetensors", "d")
    )
    if name == "d":
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(draw.randbytes(20))


def link(folder: Path, draw: random.Random) -> None:
    """Something else in a file's place, or beside the files: it lies outside, or would be read for ever."""
    path = folder / draw.choice((*FILES, "more.json"))
    outside = folder.parent / "outside"
    path.unlink(missing_ok=True)
    kind = draw.choice(("file", "same", "zero", "pipe", "gone", "loop", "folder", "hard", "fifo"))
    targets = {
        "file": outside / "canary", "same": outside / path.name, "zero": "/dev/zero", "pipe": outside / "pipe",
        "gone": outside / "gone", "loop": path, "folder": outside,
    }  # fmt: skip
    if kind == "hard":
        os.link(outside / "canary", path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(targets[kind])


def header(folder: Path, draw: random.Random) -> None:
    """Another header over the same numbers, or numbers that are none."""
    path = folder / WEIGHTS
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    document, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    kind = draw.choice(("leaf", "twice", "metadata", "more", "length", "deep", "nan", "dtype", "shift"))
    names = list(document)
    text = None
    if kind == "leaf":
        set_leaf(document, draw)
    elif kind == "twice":
        text = json.dumps(document)[:-1] + "," + json.dumps({names[0]: document[names[1]]})[1:]
    elif kind == "metadata":
        document["__metadata__"] = draw.choice(({"format": "pt"}, {"a": 5}, [], "x", {"a": "b" * 9999}))
    elif kind == "more":
        document[f"{names[0]}.more"] = {"dtype": "F32", "shape": [0], "data_offsets": [len(rest), len(rest)]}
    elif kind == "deep":
        text = "[" * draw.choice((100, 100_000)) + "]"
    elif kind == "nan":
        rest = rest[:-4] + draw.choice((b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff"))
    elif kind == "dtype":
        document[names[0]]["dtype"] = draw.choice(("F16", "BF16", "I8", "F64", "F8_E4M3", "U4"))
    elif kind == "shift":
        document[names[0]]["data_offsets"] = [
            place + draw.randrange(-8, 9) for place in document[names[0]]["data_offsets"]
        ]
    encoded = (json.dumps(document) if text is None else text).encode()
    length = draw.choice((0, 1, len(encoded) + 1, 1 << 40, (1 << 64) - 1)) if kind == "length" else len(encoded)
    path.write_bytes(length.to_bytes(8, "little") + encoded + rest)


def values(folder: Path, draw: random.Random) -> None:
    """A leaf, a key, or the nesting of one of the documents."""
    path = folder / draw.choice((CONFIG, MANIFEST, MANIFEST, SIGNATURE))
    document = json.loads(path.read_bytes())
    kind = draw.choice(("leaf", "leaf", "leaf", "drop", "new", "twice", "deep", "bytes"))
    keys = list(document)
    text = None
    if kind == "leaf":
        set_leaf(document, draw)
    elif kind == "drop":
        del document[draw.choice(keys)]
    elif kind == "new":
        document[draw.choice(("auto_map", "modules_to_save", "x", "use_dora", "exclude_modules"))] = draw.choice(NASTY)
    elif kind == "twice":
        text = json.dumps(document)[:-1] + "," + json.dumps({draw.choice(keys): draw.choice(NASTY)})[1:]
    elif kind == "deep":
        text = json.dumps(document)[:-1] + ',"x":' + "[" * 50_000 + "]" * 50_000 + "}"
    encoded = (json.dumps(document) if text is None else text).encode()
    path.write_bytes(b"\xef\xbb\xbf" + encoded if kind == "bytes" else encoded)


def set_leaf(document: Any, draw: random.Random) -> None:
    while True:
        places = list(document) if isinstance(document, dict) else list(range(len(document)))
        place = draw.choice(places)
        inner = document[place]
        if not isinstance(inner, dict | list) or not inner or draw.random() < 0.1:
            document[place] = draw.choice(NASTY)
            return
        document = inner


SPOILS: tuple[Spoil, ...] = (flip, cut, pad, swap, rename, remove, add, link, header, header, values, values, values)


def make_fit(folder: Path) -> None:
    """The manifest of one who forges: it names the files as they are by now, and is sealed."""
    # what is no plain file of a sane size would keep the forger busy, not the check
    if any(not entry.is_file() or entry.stat().st_size > 1 << 20 for entry in folder.iterdir()):
        return
    path = folder / MANIFEST
    with contextlib.suppress(ValueError, KeyError, TypeError, OSError, PlatformError, AttributeError, RecursionError):
        document = json.loads(path.read_bytes())
        document["files"] = [
            {"name": entry.name, "bytes": entry.stat().st_size, "sha256": digest_file(entry)}
            for entry in sorted(folder.iterdir())
            if entry.name not in (MANIFEST, SIGNATURE)
        ]
        document["digests"]["weights"] = digest_file(folder / WEIGHTS)
        document["seal"] = ""
        document["seal"] = digest_json(document)
        path.write_text(json.dumps(document))


def effect(folder: Path) -> tuple[Any, ...]:
    """What a library makes of an adapter that was taken: it must open it, and this is what it then has."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / WEIGHTS)
    return (
        json.loads((folder / CONFIG).read_bytes()),
        {name: (str(value.dtype), value.shape, value.tobytes()) for name, value in tensors.items()},
        read_manifest(folder).model_dump(exclude={"seal", "created_at"}),
    )


@contextlib.contextmanager
def deadline() -> Iterator[None]:
    def over(number: int, frame: Any) -> None:
        raise TooSlowError

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Fuzz:
    """A sound, signed adapter in root, a server's store with and without a policy, and things outside that stay."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sound = save_bare_adapter(root / "sound", rank=2)
        write_manifest(self._sound, read_manifest(self._sound))
        key, public = root / "key.pem", root / "public.pem"
        curve = ("-pkeyopt", "ec_paramgen_curve:P-256")
        make = ["openssl", "genpkey", "-algorithm", "EC", *curve, "-out", str(key)]
        subprocess.run(make, check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)], check=True)
        sign_adapter(self._sound, key, password=str)
        outside = root / "adapters" / "outside"
        outside.mkdir(parents=True)
        (outside / "canary").write_text("{}")
        for name in FILES:
            shutil.copyfile(self._sound / name, outside / name)
        os.mkfifo(outside / "pipe")
        self._adapters = root / "adapters"
        self._before = self._outside()
        self._open = AdapterStore(self._adapters, max_rank=64, max_bytes=1 << 30)
        self._strict = AdapterStore(
            self._adapters, max_rank=64, max_bytes=1 << 30, trust=TrustFile(public, required=True)
        )
        self._wanted = effect(self._sound)
        self._bytes = {name: (self._sound / name).read_bytes() for name in (WEIGHTS, CONFIG, MANIFEST)}
        self._description = EngineDescription(
            identity=BASE,
            quantization=Quantization.NF4,
            chat_template_digest=digest_text("template"),
            tokenizer_digest=digest_text("tokenizer"),
            max_context_tokens=128,
            device="cpu",
        )
        self.reasons: collections.Counter[str] = collections.Counter()
        assert self._check(self._strict, self._sound)

    def spoil(self, number: int) -> None:
        """Make the spoiled adapter of that number, and hold it against both stores. Raises whatever goes wrong."""
        draw = random.Random(number)
        folder = self._adapters / "shop"
        shutil.copytree(self._sound, folder)
        try:
            draw.choice(SPOILS)(folder, draw)
            forged = number % 2 == 1
            if forged:
                make_fit(folder)
            with deadline():
                taken = self._check(self._open, folder)
                trusted = self._check(self._strict, folder)
            assert taken or not trusted, "a policy took what is not sound"
            if taken:
                found = effect(folder)
                assert forged or found == self._wanted, "another adapter was taken for the one that it was"
            if trusted:
                assert {name: (folder / name).read_bytes() for name in self._bytes} == self._bytes
            assert self._outside() == self._before, "something outside was changed"
        finally:
            shutil.rmtree(folder)

    def _check(self, store: AdapterStore, folder: Path) -> AdapterManifest | None:
        """The manifest of what was taken and copied, None for what was refused in words that a client may read."""
        try:
            manifest = store.check(folder, self._description)
            copy = store.copies.take(folder, manifest, check=lambda place: store.check(place, self._description))
        except PlatformError as error:
            assert str(self._root) not in str(error) and str(error).isprintable(), f"unfit to be told: {error!r}"
            self.reasons[re.sub(r"['\d].*", "", error.message.partition(" ")[2])[:60]] += 1
            return None
        copy.release()
        store.copies.sweep(lambda _: False)
        return manifest

    def _outside(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in sorted(self._root.rglob("*")):
            if "shop" not in path.parts and "served" not in path.parts:
                status = path.lstat()
                found[str(path)] = None if path.is_dir() else (status.st_mode, status.st_size, status.st_mtime_ns)
        return found


def main(count: int, first: int) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        fuzz = Fuzz(Path(name))
        for number in range(first, first + count):
            try:
                fuzz.spoil(number)
            except BaseException:
                sys.stderr.write(f"number {number} was neither refused nor the same\n")
                raise
        refused = sum(fuzz.reasons.values())
        sys.stdout.write(json.dumps({"adapters": count, "refusals": refused, "reasons": fuzz.reasons.most_common()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
