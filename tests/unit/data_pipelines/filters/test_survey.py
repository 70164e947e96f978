import pytest

from data_pipelines.config import PipelineConfig, SourceSection
from data_pipelines.filters import survey
from data_pipelines.filters.chain import FilterChain
from data_pipelines.filters.survey import main_authors, read_context
from data_pipelines.sources.git import open_repository

MIT = "Copyright (c) 2020 {}\n\nPermission is hereby granted, free of charge, to any person obtaining a copy"
OWN = "# Copyright 2020 Shopworks GmbH\n"
CODE = "".join(f"def weigh_{n}(box):\n    return box.weight + {n}\n\n\n" for n in range(3))


@pytest.fixture
def context_of(make_repository):
    def build(files, authors=(), **source):
        builder = make_repository("repo")
        builder.commit(files)
        section = SourceSection(path=builder.path, **source)
        with open_repository(builder.path, name="x") as repository:
            return read_context(repository.entries(), repository.content, source=section, authors=authors)

    return build


def own_files(num_files=12):
    return {f"shop/m{number}.py": OWN + CODE for number in range(num_files)}


def verdict(context, path, text=CODE, **evidence):
    place = context.for_path(path, **evidence)
    return FilterChain(PipelineConfig()).by_text(path, text.encode(), place)[1].reason


def test_a_header_of_somebody_else_makes_a_file_foreign(context_of):
    context = context_of(own_files(), authors=["Grace Hopper"], name="team/basket")
    assert context.is_clear
    foreign = "# Copyright 2019 Charles Babbage\n" + CODE
    assert verdict(context, "shop/x.py", foreign) == "vendored: header names another copyright holder"
    assert verdict(context, "shop/x.py", foreign, num_local_commits=7) == ""
    assert verdict(context, "shop/x.py", "# Copyright 2019 Grace Hopper\n" + CODE) == ""
    assert verdict(context, "shop/x.py", "# Copyright 2019 The Basket Authors\n" + CODE) == ""
    assert verdict(context, "shop/x.py", OWN + CODE) == ""


def test_a_few_headers_are_no_majority(context_of):
    context = context_of(own_files(5))
    assert not context.is_clear
    assert verdict(context, "shop/x.py", "# Copyright 2019 Charles Babbage\n" + CODE) == ""


def test_a_licence_of_its_own_counts_where_it_differs(context_of):
    files = own_files() | {
        "LICENSE": MIT.format("Shopworks GmbH"),
        "libs/ours/LICENSE": MIT.format("Shopworks"),
        "libs/ours/package.json": "{}",
        "external/fmt/LICENSE": "Mozilla Public License Version 2.0\n",
        "lib/gift/LICENSE": MIT.format("Victor Z"),
        "lib/gift/package.json": "{}",
        "external/ours/a.py": CODE,
        "lib/x/package.json": "{}",
    }
    context = context_of(files)
    assert verdict(context, "libs/ours/a.py") == ""
    assert verdict(context, "external/fmt/a.py") == "vendored: licence file of its own, folder external"
    assert verdict(context, "lib/gift/a.py") == "", "the licence is the same, the giver a contributor"
    assert verdict(context, "external/ours/a.py") == ""
    assert verdict(context, "lib/x/a.py") == ""
    assert context.for_path("external/fmt/a.py").license == "MPL-2.0"


def test_a_repository_without_a_licence_holds_no_licensed_code_of_its_own(context_of):
    context = context_of(own_files() | {"copied/LICENSE": MIT.format("Victor Z"), "copied/a.py": CODE})
    assert verdict(context, "copied/a.py") == "vendored: licence file of its own"
    assert verdict(context, "shop/x.py", "# SPDX-License-Identifier: MIT\n" + CODE).startswith("vendored: header gives")


def test_a_licence_where_most_of_the_code_lies_is_the_repositorys(context_of):
    context = context_of(own_files() | {"shop/LICENSE": MIT.format("Victor Z"), "tools/a.py": CODE})
    assert verdict(context, "shop/a.py") == ""


def test_nested_attributes_and_rules_of_the_source(context_of):
    files = {"a/b/.gitattributes": "x.py linguist-vendored", ".gitattributes": "*.py -linguist-generated"}
    context = context_of(files, include=("a",), exclude=("a/c",))
    assert context.for_path("a/b/x.py").attributes.vendored is True
    assert context.for_path("a/x.py").attributes.generated is False
    assert context.for_path("z.py").excluded
    assert context.for_path("a/c/z.py").excluded
    assert not context.for_path("a/z.py").excluded


def test_what_matters_for_a_path_does_not_change_with_other_paths(context_of, tmp_path):
    files = own_files()
    first = context_of(files)
    second = context_of(
        files | {"other/LICENSE": MIT.format("Victor Z"), "other/.gitattributes": "* linguist-vendored"}
    )
    assert first.digest() != second.digest()
    assert first.for_path("shop/m1.py") == second.for_path("shop/m1.py")
    assert hash(first.for_path("shop/m1.py")) == hash(second.for_path("shop/m1.py"))
    assert first.for_path("shop/m1.py").digest() == second.for_path("shop/m1.py").digest()
    assert first.for_path("other/m1.py").digest() != second.for_path("other/m1.py").digest()
    assert first.for_path("shop/m1.py", num_repositories_with_blob=2) != first.for_path("shop/m1.py")
    assert first.for_path("a.py", num_repositories_with_blob=3) == first.for_path("a.py", num_repositories_with_blob=9)


def test_main_authors_are_those_of_a_hundredth_of_the_commits():
    assert main_authors({"Grace": 990, "Ada": 10, "Guest": 9}) == ("Grace",)
    assert main_authors({"Grace": 980, "Ada": 10}) == ("Ada", "Grace")
    assert main_authors({}) == ()


def test_what_is_too_much_is_left_out_and_noted(context_of, monkeypatch):
    monkeypatch.setattr(survey, "MAX_ATTRIBUTE_FILES", 1)
    monkeypatch.setattr(survey, "MAX_LICENSE_FILES", 1)
    files = {f"{folder}/{name}": folder for folder in ("a", "b") for name in ("LICENSE", ".gitattributes")}
    assert context_of(files).notes == (
        "1 .gitattributes files are too many and were not used",
        "1 licence files are too many and were not used",
    )
