"""Make text.json from the standard library of the running Python: python -m finetune.evaluate.general.make"""

import hashlib
import json
import re
import sysconfig
from pathlib import Path

FOLDER = Path(__file__).parent
TEXT_NAME = "text.json"
NUM_TEXTS = 96
MIN_CHARACTERS, MAX_CHARACTERS = 500, 900
# Not in the embedded base's corpus, as asyncio and idlelib are not, or seldom in anybody's; and the rest at large.
FOLDERS = (".", "asyncio", "idlelib", "email", "json", "logging", "unittest", "http", "xml/etree", "concurrent/futures")
# A file that states terms of its own may not be under Python's licence.
OTHER_TERMS = re.compile(r"copyright|licen[cs]e|all rights reserved", re.IGNORECASE)
BLOCK = re.compile(r"^(?=def |class |    def |async def |    async def )", re.MULTILINE)


def texts() -> list[dict[str, str]]:
    """One piece each of NUM_TEXTS modules: functions or methods in a row, so that a piece starts and ends cleanly."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for folder in FOLDERS:
        for path in sorted((root / folder).glob("*.py")):
            text = path.read_text(encoding="utf-8", errors="ignore")
            if text.isascii() and not OTHER_TERMS.search(text) and (piece := _piece(text)):
                found.append({"path": path.relative_to(root).as_posix(), "text": piece})
    found.sort(key=lambda entry: hashlib.sha256(entry["path"].encode()).hexdigest())
    return found[:NUM_TEXTS]


def _piece(text: str) -> str:
    """The first run of blocks, from the second on, whose size fits; "" if there is none."""
    blocks = BLOCK.split(text)[1:]
    for start in range(1, len(blocks)):
        piece = ""
        for block in blocks[start:]:
            if len(piece) + len(block) > MAX_CHARACTERS:
                break
            piece += block
        if len(piece) >= MIN_CHARACTERS:
            return piece.rstrip() + "\n"
    return ""


def main() -> None:
    """Write text.json beside this file."""
    document = {"python": sysconfig.get_python_version(), "license": "PSF-2.0", "texts": texts()}
    (FOLDER / TEXT_NAME).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
