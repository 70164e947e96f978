"""Licences as provenance: a file's own SPDX line, else the licence file of the nearest folder above."""

import re

from data_pipelines.filters.language import BY_SUFFIX

TEXTS = frozenset({"text", "markdown", "restructuredtext", "html"})
SPDX_LINE = re.compile(r"SPDX-License-Identifier:\s*([A-Za-z0-9.+()\- ]{2,80})")
SPDX_HEAD_CHARS = 2000
LICENSE_NAME = re.compile(r"(?i)^(?:licen[cs]e|copying|unlicense)(?:[.\-_](?:md|txt|rst|[a-z0-9.\-]+))?$")
MAX_LICENSE_BYTES = 100_000
# Phrases that only the named text has, looked for in order: the first that matches wins.
PHRASES = (
    ("AGPL-3.0", r"gnu affero general public license"),
    ("LGPL-3.0", r"gnu lesser general public license\s+version 3"),
    ("LGPL-2.1", r"gnu lesser general public license"),
    ("GPL-3.0", r"gnu general public license\s+version 3"),
    ("GPL-2.0", r"gnu general public license\s+version 2"),
    ("Apache-2.0", r"apache license,?\s+version 2\.0"),
    ("MPL-2.0", r"mozilla public license,?\s+(?:version|v\.) 2\.0"),
    ("Unlicense", r"free and unencumbered software released into the public domain"),
    ("ISC", r"permission to use, copy, modify, and/or distribute this software"),
    ("BSD-3-Clause", r"redistribution and use in source and binary forms.*neither the name"),
    ("BSD-2-Clause", r"redistribution and use in source and binary forms"),
    ("MIT", r"permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("PSF-2.0", r"python software foundation license"),
)
COMPILED = tuple((name, re.compile(pattern, re.DOTALL)) for name, pattern in PHRASES)


def is_license_name(path: str) -> bool:
    """Whether a path is named like a licence file; "license.py" is code about licences."""
    name = path.rsplit("/", 1)[-1]
    suffix = f".{name.rpartition('.')[2].lower()}"
    return bool(LICENSE_NAME.match(name)) and BY_SUFFIX.get(suffix, "text") in TEXTS


def license_of_text(text: str) -> str | None:
    """The SPDX name of a licence file's text, None when it is not one we know."""
    flat = re.sub(r"\s+", " ", text.lower())
    return next((name for name, pattern in COMPILED if pattern.search(flat)), None)


def license_of_file(text: str, nearest: str | None) -> str | None:
    """The licence of a source file: its SPDX line, else that of the nearest folder that has one."""
    own = SPDX_LINE.search(text[:SPDX_HEAD_CHARS])
    return own[1].strip() if own else nearest
