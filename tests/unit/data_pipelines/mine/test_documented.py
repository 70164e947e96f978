from dataclasses import replace

import pytest

from data_pipelines.draw import Draw
from data_pipelines.extract.registry import extractor_for
from data_pipelines.mine.describe import describe_rows, pick_describe
from data_pipelines.mine.docstring import docstring_rows, pick_docstring
from data_pipelines.mine.documented import is_delegation, parameters, qualifies, tells_behaviour
from data_pipelines.mine.words import name_words
from data_pipelines.task_config import DescribeSection, DocstringSection
from finetune.contracts.dataset import Role, Task


def part(row, role):
    return "".join(segment.text for segment in row.segments if segment.role is role)


def undented(text):
    return "\n".join(line.strip() for line in text.strip().split("\n"))


def unit_of(text, language="python"):
    (unit,) = extractor_for(language).units(text.encode()).functions
    return unit


def test_docstring_rows_hold_the_function_of_the_file(shop_of):
    rows = [
        (loaded, row)
        for loaded in shop_of.files.values()
        for row in docstring_rows(loaded.file, loaded.text, units=loaded.picks.docstring)
    ]
    assert rows
    for loaded, row in rows:
        answer = part(row, Role.ANSWER)
        assert answer.startswith(part(row, Role.INSTRUCTION) + "\n")
        assert undented(answer) in undented(loaded.text.decode())


def test_describe_rows_are_the_function_without_its_doc_and_the_doc(shop_of):
    rows = [
        (loaded, row)
        for loaded in shop_of.files.values()
        for row in describe_rows(loaded.file, loaded.text, units=loaded.picks.describe)
    ]
    assert rows
    for loaded, row in rows:
        doc, code = undented(part(row, Role.ANSWER)), undented(part(row, Role.CONTEXT))
        text = undented(loaded.text.decode())
        start = text.index(doc)
        without = text[:start] + text[start + len(doc) :].lstrip("\n")
        assert code in without
        assert doc not in code
        assert [segment.role for segment in row.segments] == [Role.INSTRUCTION, Role.CONTEXT, Role.ANSWER]
        assert row.task is Task.DESCRIBE


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (b"return other(a, b)", True),
        (b"return self.other(\n    a,\n    [b],\n)", True),
        (b"other->run(a);", True),
        (b"await client.send(a)", True),
        (b"return other(a) + 1", False),
        (b"x = other(a)\nreturn x", False),
        (b"return other(a).second(b)", False),
        (b"if a:\n    return b(c)", False),
    ],
)
def test_delegation_is_one_call_alone(code, expected):
    assert is_delegation(code) is expected


@pytest.mark.parametrize(
    ("name", "doc", "body", "expected"),
    [
        ("round_price", "Round the value half up to cents.", "a = 1\n    b = 2\n    return a", True),
        ("get_user_name_of_account", "Get the user name of the account.", "a = 1\n    b = 2\n    return a", False),
        ("getUserNamesOfAccount", "Returns the user names of an account.", "a = 1\n    b = 2\n    return a", False),
        ("round_price", "Round the value half up to cents.", "return other(\n        v,\n        2,\n    )", False),
    ],
)
def test_functions_whose_doc_or_code_says_nothing_are_left_out(name, doc, body, expected):
    text = f'def {name}(value):\n    """{doc}"""\n    {body}\n'
    unit = unit_of(text)
    assert qualifies(text.encode(), unit, DocstringSection()) is expected


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ("Send the `retries` of it again.", True),
        ("Do the thing: refuse strangers, welcome friends.", True),
        ("Send it all, friend of the messages.", False),
    ],
)
def test_a_description_names_a_parameter_or_a_behaviour(doc, expected):
    text = f'def send_all_messages(retries):\n    """{doc}"""\n    a = 1\n    b = 2\n    return a\n'
    unit = unit_of(text)
    assert tells_behaviour(text.encode(), unit) is expected


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ("Send all of the messages, friend.", 0),
        ("Send it to REDACTED_NAME_0123abcd, refuse strangers.", 0),
        ("Send the messages, refuse strangers and friends.", 1),
    ],
)
def test_descriptions_that_say_little_or_hold_a_placeholder_are_not_picked(make_shop, doc, expected):
    text = f'def send_all_messages(x):\n    """{doc}"""\n    a = 1\n    b = 2\n    return a\n'
    assert len(make_shop({"a.py": text}).files["a.py"].picks.describe) == expected


def test_parameters_are_read_below_a_comment_too():
    text = "// Sums up what lines cost.\nfunc Total(lines []Line, rate float64) float64 {\n\tx := 1\n\treturn x\n}\n"
    assert {"lines", "rate"} <= parameters(("package a\n\n" + text).encode(), unit_of("package a\n\n" + text, "go"))


def test_names_are_cut_into_words():
    assert name_words("parseHTTPHeader_v2") == ["parse", "http", "header", "v", "2"]


def test_describe_takes_a_share():
    assert DescribeSection().share < 1


def test_a_function_with_two_bodies_gives_one_row(make_shop):
    text = make_shop("python").files["shop/price.py"].text
    extractor = extractor_for("python")
    units = extractor.units(text)
    twice = replace(units, functions=[same for unit in units.functions for same in (unit, replace(unit, name="x"))])
    draw = Draw("x")
    docstring = pick_docstring(text, units=twice, extractor=extractor, section=DocstringSection(), draw=draw)
    describe = pick_describe(text, units=twice, section=DescribeSection(share=1, max_rows_per_file=9), draw=draw)
    assert [unit.name for unit in docstring] == [unit.name for unit in describe] == ["round_price", "add_tax"]
