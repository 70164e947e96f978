"""The comment that a file begins with: whose copyright it names, and which licence. Holders are kept as digests."""

import hashlib
import re
from functools import lru_cache

import re2

from data_pipelines.filters.context import PathContext
from data_pipelines.filters.license import SPDX_LINE, license_of_text
from data_pipelines.filters.vendored import (
    OTHER_HOLDER,
    OTHER_LICENSE,
    STRANGE_HOLDER,
    WITH_BANNER,
    Evidence,
    has_banner,
)

HEAD_CHARS = 4000
# never fails, so it never backtracks: an open comment runs to the end of the head
COMMENTS = re.compile(
    r"""(?:\s+|\#[^\n]*|//[^\n]*|--[^\n]*|;[^\n]*|<\?php|/\*.*?(?:\*/|\Z)|<!--.*?(?:-->|\Z)|"{3}.*?(?:"{3}|\Z))*""",
    re.DOTALL,
)
LICENSE_WORDS = re.compile(r"(?i)licen[cs]e|redistribution|permission|public domain")
# in RE2: blanks stand in several places of it, and a header of blanks alone would take hours otherwise
HOLDER = re2.compile(
    r"(?i)copyright\s*(?:\(c\)|©|&copy;)?[\s:,]*(?:(?:19|20)\d\d(?:\s*[-–,]\s*(?:(?:19|20)?\d\d|present|now))*[\s,.:]*)*"
    r"(?:\(c\)|©)?\s*(?:by\s+)?(\pL[^\n<(@/*#]{1,80})"
)
# words of sentences about copyright that name nobody
NOBODY = re.compile(
    r"(?i)^(?:notice|holder|owner|law|and|is|of|in|license|statement|protect|information|header|year|on|to)"
)
TAIL = re.compile(
    r"(?i)[\s,.;]*(?:\ball rights reserved|\bet al|\band (?:other )?contributors|\band others|https?:).*$"
)
NO_NAME = re.compile(
    r"(?i)\b(?:the|authors?|contributors?|project|inc|incorporated|llc|ltd|limited|gmbh|corp|corporation|company|co|ag|sa|bv)\b"
)
DIGEST_CHARS = 12
# stands among a repository's licences when its licence file is none we know: then no header contradicts it
UNKNOWN_LICENSE = "unknown"
SUFFIXES = re.compile(r"(?i)(?:-only|-or-later|\+)$")


def header_of(text: str) -> str:
    """The comments before the first line of code, "" without any."""
    found = COMMENTS.match(text[:HEAD_CHARS])
    return found[0] if found else ""


def holders_of(header: str) -> frozenset[str]:
    """Digests of those whose copyright a text names: "Ada Byron Inc., 2020" and "the ADA BYRON authors" are one."""
    if "opyright" not in header and "OPYRIGHT" not in header:
        return frozenset()
    named = (found[1] for found in HOLDER.finditer(header) if not NOBODY.match(found[1]))
    return frozenset(digest for name in named if (digest := holder_digest(name)))


def holder_digest(name: str) -> str:
    """How a holder is kept: no name gets into a report or a cache; "" for what is no name."""
    normal = _normal(name)
    return hashlib.sha256(normal.encode()).hexdigest()[:DIGEST_CHARS] if normal else ""


def licenses_of(header: str) -> frozenset[str]:
    """SPDX names that a header gives, by its SPDX line or by a phrase; without "-only" and "-or-later"."""
    if not LICENSE_WORDS.search(header):
        return frozenset()
    line = SPDX_LINE.search(header)
    if line:
        words = re.split(r"\s+(?:OR|AND|WITH)\s+|[()\s]+", line[1].strip())
        return frozenset(bare_license(word) for word in words if word)
    phrase = license_of_text(re.sub(r"(?m)^[ \t]*(?:#|//|\*|--|;)+", " ", header))
    return frozenset({bare_license(phrase)}) if phrase else frozenset()


def bare_license(name: str) -> str:
    """An SPDX name without the part that tells of later versions."""
    return SUFFIXES.sub("", name)


def header_evidence(text: str, place: PathContext) -> list[Evidence]:
    """What the head of a file says against its being the repository's own; a licence that only it names included."""
    found = [Evidence("banner of a release", WITH_BANNER)] if has_banner(text) else []
    holders, licenses = _named(header_of(text))
    if not place.is_maintained and holders and place.holders and holders.isdisjoint(place.holders):
        weight = OTHER_HOLDER if place.is_clear else STRANGE_HOLDER
        found.append(Evidence("header names another copyright holder", weight))
    if licenses and UNKNOWN_LICENSE not in place.licenses and licenses.isdisjoint(place.licenses):
        found.append(Evidence("header gives another licence", OTHER_LICENSE))
    return found


# the files of a repository share a few headers
@lru_cache(maxsize=1024)
def _named(header: str) -> tuple[frozenset[str], frozenset[str]]:
    return holders_of(header), licenses_of(header)


def _normal(name: str) -> str:
    words = NO_NAME.sub(" ", TAIL.sub("", name))
    return " ".join(re.findall(r"[^\W\d_]+", words.lower()))
