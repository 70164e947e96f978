import pytest

from data_pipelines.mine.head import code_start


@pytest.mark.parametrize(
    ("above", "code"),
    [
        ("/* Copyright of somebody.\n * All rights reserved.\n */\n", "package a;\n"),
        ("// SPDX-License-Identifier: MIT\n\n", "package a\n"),
        ("# Licensed under the Apache License\n# and so on\n\n", "import os\n"),
        ("// Copyright\n// of somebody\n\n/* more of it */\n\n", "#include <a.h>\n"),
        ("", "/** Says what the file is for. */\nclass A {}\n"),
        ("", "#!/bin/sh\n# Copyright of somebody\nls\n"),
        ("", "#include <license.h>\nint copyright;\n"),
        ("", "x = 1  # copyright\n"),
        ("", "/* Copyright that never ends\n"),
    ],
)
def test_code_begins_below_what_the_licence_says(above, code):
    assert code_start((above + code).encode()) == len(above)
