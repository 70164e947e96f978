import time

import pytest

from data_pipelines.filters.context import PathContext
from data_pipelines.filters.header import header_evidence, header_of, holder_digest, holders_of, licenses_of

ADA = holder_digest("Ada Byron")


@pytest.mark.parametrize(
    "line",
    [
        "Copyright (c) 2019-2024 Ada Byron <ada@corp.io>",
        "Copyright 2019, 2021, 2024 Ada Byron, Inc. All rights reserved.",
        "COPYRIGHT (C) ADA BYRON, et al.",
        "Copyright © 2012 - present, Ada Byron and contributors",
        "Copyright (C) 2020 by the Ada Byron authors",
        "copyright: 2020 Ada Byron (see AUTHORS)",
    ],
)
def test_one_holder_however_written(line):
    assert holders_of(f"/*\n * {line}\n */") == {ADA}


@pytest.mark.parametrize(
    "text",
    ["This copyright notice must stay.", "copyright law", "Copyright (c) 2020", "the copyright holders", "no such"],
)
def test_sentences_name_nobody(text):
    assert holders_of(text) == frozenset()


def test_no_name_is_kept():
    assert "ada" not in repr(holders_of("Copyright 2020 Ada Byron")).lower()


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("// SPDX-License-Identifier: GPL-2.0-or-later", {"GPL-2.0"}),
        ("# SPDX-License-Identifier: (MIT OR Apache-2.0)", {"MIT", "Apache-2.0"}),
        ("# Licensed under the Apache License,\n# Version 2.0 (the License)", {"Apache-2.0"}),
        ("/*\n * Permission is hereby granted, free of charge, to any\n * person obtaining a copy\n */", {"MIT"}),
        ("# see the LICENSE file", set()),
    ],
)
def test_licences(header, names):
    assert licenses_of(header) == names


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("#!/bin/sh\n# a\n\n# b\nrun # c\n", "#!/bin/sh\n# a\n\n# b\n"),
        ("<?php\n/* a\nb */\nclass A {}\n", "<?php\n/* a\nb */\n"),
        ('"""a"""\nx = 1\n', '"""a"""\n'),
        ("-- a\nSELECT 1;\n", "-- a\n"),
        ("x = 1  # Copyright 2020 Ada Byron\n", ""),
        ("/* open", "/* open"),
    ],
)
def test_the_header_ends_where_code_begins(text, header):
    assert header_of(text) == header


def test_what_a_header_says_against_a_file():
    foreign = "/* Copyright 2020 Charles Babbage\n * SPDX-License-Identifier: MIT */\nint a;\n"
    own = PathContext(holders=(ADA,), licenses=("Apache-2.0",), is_clear=True)
    reasons = ["header names another copyright holder", "header gives another licence"]
    assert [item.reason for item in header_evidence(foreign, own)] == reasons
    assert [item.weight for item in header_evidence(foreign, own)] == [0.5, 0.5]
    assert header_evidence(foreign.replace("Charles Babbage", "Ada Byron").replace("MIT", "Apache-2.0"), own) == []
    vague = PathContext(holders=(ADA,), licenses=("unknown",))
    assert [item.weight for item in header_evidence(foreign, vague)] == [0.3]
    maintained = PathContext(holders=(ADA,), licenses=("MIT",), is_clear=True, is_maintained=True)
    assert header_evidence(foreign, maintained) == []
    assert [item.reason for item in header_evidence("/*! shop.js v1.2.3 */\n", own)] == ["banner of a release"]


@pytest.mark.parametrize(
    "head", ["/* copyright" + " " * 3900, "#" * 3900, "/*" * 1900, "copyright 2020-" * 260, '"' * 3999]
)
def test_no_header_takes_long(head):
    began = time.process_time()
    header_evidence(head, PathContext(holders=(ADA,)))
    assert time.process_time() - began < 1
