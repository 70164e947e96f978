"""Where the code of a file begins."""

import re

FIRST_COMMENT = re.compile(
    rb"\A(?:\s*(?:/\*.*?\*/[^\S\n]*\n|(?://|#(?!!|\s*(?:include|define|if)))[^\n]*\n))+\s*", re.DOTALL
)
LICENSE = re.compile(rb"(?i)copyright|licen[sc]e|spdx-")


def code_start(text: bytes) -> int:
    """The place below the comment with which a file begins, when that speaks of copyright or a licence; else 0."""
    comment = FIRST_COMMENT.match(text)
    return comment.end() if comment and LICENSE.search(comment.group()) else 0
