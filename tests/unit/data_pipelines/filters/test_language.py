import time

import pytest

from data_pipelines.config import PipelineConfig
from data_pipelines.document import TreeEntry
from data_pipelines.filters.chain import FilterChain
from data_pipelines.filters.language import header_language, is_wanted, language_of, other_language


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("shop/cart.py", "python"),
        ("a.TSX", "typescript"),
        ("a.kts", "kotlin"),
        ("Rakefile", "ruby"),
        ("bin/run.bats", "bash"),
        ("infra/main.tf", "hcl"),
        ("CMakeLists.txt", "cmake"),
        ("LICENSE", None),
        ("a.unheard", None),
    ],
)
def test_names_tell_the_language(path, language):
    assert language_of(path) == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("#include <stdio.h>\nstruct item { int grams; };\nint weigh(struct item *item);\n", "c"),
        ("namespace shop {\nint weigh();\n}\n", "cpp"),
        ("class Basket : public Base {\n};\n", "cpp"),
        ("template <typename T> T weigh(T item);\n", "cpp"),
        ("#include <vector>\nint weigh();\n", "cpp"),
        ("int weigh(const std::string& item);\n", "cpp"),
        ("struct A {\n public:\n  int a;\n};\n", "cpp"),
        ('#ifdef __cplusplus\nextern "C" {\nnamespace a {}\n#endif\nint weigh(void);\n', "c"),
        ("#if defined(__cplusplus)\n#include <vector>\n#endif\nint weigh(void);\n", "c"),
        ("/* the class of baskets\nclass Basket has std::string\n*/\nint weigh(void); // std::x\n", "c"),
    ],
)
def test_a_header_is_c_or_cpp_by_its_text(text, language):
    assert header_language(text) == language
    assert language_of("include/shop.h", text) == language


def test_a_header_is_read_when_either_language_is_wanted_and_kept_when_it_is_the_one():
    cpp = b"namespace shop {\nint weigh(int grams);\nint limit(int shelf);\n}\n"
    assert is_wanted("a.h", ("cpp",))
    assert not is_wanted("a.h", ("python",))
    for languages, stage in ((["c"], "language"), (["cpp"], ""), (["c", "cpp"], "")):
        chain = FilterChain(PipelineConfig.model_validate({"languages": languages}))
        assert chain.by_entry(TreeEntry(b"a.h", "100644", "a" * 40, 500)).keeps
        assert chain.by_text("a.h", cpp)[1].stage == stage


@pytest.mark.parametrize(
    ("path", "none", "known", "every"),
    [
        ("a.lua", None, "lua", "lua"),
        ("a.proto", None, "protobuf", "protobuf"),
        ("Makefile", None, "make", "make"),
        ("a.unheard", None, None, "unheard"),
        ("LICENSE", None, None, None),
        (".gitignore", None, None, None),
        ("a.csv", None, None, None),
        ("poetry.lock", None, None, None),
        ("a.json", None, None, None),
        ("a.md", None, None, None),
        ("a.txt", None, None, None),
        ("a.py", None, None, None),
        ("a.h", None, None, None),
    ],
)
def test_other_languages_are_taken_as_the_pipeline_says(path, none, known, every):
    assert [other_language(path, wanted) for wanted in ("none", "known", "any")] == [none, known, every]


def test_a_language_that_was_not_chosen_is_no_other_language():
    chain = FilterChain(PipelineConfig.model_validate({"languages": ["python"], "other_languages": "any"}))
    verdict = chain.by_entry(TreeEntry(b"a.js", "100644", "a" * 40, 500))
    assert verdict.reason == "language javascript is not supported"
    assert chain.by_entry(TreeEntry(b"a.unheard", "100644", "a" * 40, 500)).keeps
    assert chain.by_entry(TreeEntry(b"a.csv", "100644", "a" * 40, 500)).reason == "not source code by its name"


@pytest.mark.parametrize("text", ["/*" * 100_000, "#ifdef __cplusplus\n" * 10_000, "/* std::x"])
def test_openings_without_an_end_are_read_once(text):
    began = time.process_time()
    assert header_language(text) == "c"
    assert time.process_time() - began < 2
