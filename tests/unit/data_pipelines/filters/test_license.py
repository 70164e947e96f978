import pytest

from data_pipelines.filters.context import RepositoryContext
from data_pipelines.filters.license import is_license_name, license_of_file, license_of_text

MIT = 'Permission is hereby granted, free of charge,\nto any person obtaining a copy of this software, "as is"'
BSD = "Redistribution and use in source and binary\nforms, with or without modification"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (MIT, "MIT"),
        (BSD, "BSD-2-Clause"),
        (BSD + ". Neither the name of the copyright holder", "BSD-3-Clause"),
        ("Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007", "GPL-3.0"),
        ("GNU AFFERO GENERAL PUBLIC LICENSE\n Version 3", "AGPL-3.0"),
        ("All rights reserved.", None),
    ],
)
def test_known_texts(text, name):
    assert license_of_text(text) == name


def test_the_nearest_licence_file_counts_and_an_spdx_line_wins():
    context = RepositoryContext(licenses=(("", "MIT"), ("lib", "Apache-2.0"), ("lib/odd", None)))
    assert context.for_path("a.py").license == "MIT"
    assert context.for_path("lib/x/a.py").license == "Apache-2.0"
    assert context.for_path("lib/odd/a.py").license is None
    assert RepositoryContext().for_path("a.py").license is None
    assert license_of_file("", "MIT") == "MIT"
    assert license_of_file("# SPDX-License-Identifier: GPL-2.0-only\n", "MIT") == "GPL-2.0-only"
    assert license_of_file("", None) is None


@pytest.mark.parametrize("name", ["LICENSE", "docs/LICENCE.md", "COPYING", "LICENSE-MIT", "license.txt"])
def test_licence_names(name):
    assert is_license_name(name)
    assert not is_license_name(name + "/licensing.py")


@pytest.mark.parametrize("name", ["filters/license.py", "License.java", "copying.go"])
def test_code_about_licences_is_no_licence(name):
    assert not is_license_name(name)
