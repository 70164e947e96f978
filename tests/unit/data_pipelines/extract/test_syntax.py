"""What all grammars share: syntax errors, silent places, which comment documents which function."""

import pytest

from data_pipelines.document import Span, Stratum, Units
from data_pipelines.extract.registry import extractor_for
from data_pipelines.mine.infill import is_worth_it
from data_pipelines.spans import SpanList, merge, outside, touches, trim
from data_pipelines.task_config import DocstringSection, InfillSection
from finetune.contracts.dataset import Role
from tests.unit.data_pipelines.mined import File, docstrings_of, infill_of

FUNCTION = """
/* Weigh. */
static int weigh_{0}(int grams)
{{
    int total_{0} = grams * {0};
    return clamp(total_{0}, LIMIT);
}}
"""
# the parenthesis is never closed: as long as the file is, one byte is missing
BROKEN = "\n/* Doc of what is broken. */\nint broken(int x) { return (x; }\n"
MANY = "".join(FUNCTION.format(number) for number in range(9))
C_TEXT = (MANY + BROKEN + MANY).encode()


def cut(text, span):
    return text[span.start : span.end].decode()


def targets(text, units, **section):
    section = InfillSection.model_validate({"bytes_per_row": 100, "max_rows_per_file": 400, **section})
    rows = infill_of(File("a", "c"), text, units=units, extractor=extractor_for("c"), section=section, seed=3)
    return [segment.text for row in rows for segment in row.segments if segment.role is Role.TARGET]


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_a_few_errors_are_forgiven_and_no_target_touches_them(language):
    extractor = extractor_for(language)
    assert extractor.parses(C_TEXT)
    units = extractor.units(C_TEXT)
    assert units.parses
    assert units.broken
    assert len(units.functions) == 18
    assert "broken" not in {unit.name.partition("(")[0] for unit in units.functions}
    spans = [span for found in units.spans.values() for span in found]
    assert len(spans) > 50
    assert not [span for span in spans if touches(units.broken, span)]
    found = targets(C_TEXT, units, strata={"block": 0, "statement": 0, "call": 0, "line": 0, "random": 1})
    assert len(found) > 10
    assert not [text for text in found if "(x;" in text]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("c", "int (x;\n" * 20),
        ("sql", "SELCT id FORM items WHER x;\n" * 9),
        ("java", "class A { int a = 1; int b = (2; }\n" + "// more\n" * 200),
        ("go", "package a\nfunc (\n" + "// more\n" * 200),
        ("ruby", "def f(\n" + "# more\n" * 200),
    ],
)
def test_more_errors_than_the_language_forgives_leave_nothing(language, text):
    assert not extractor_for(language).parses(text.encode())
    assert extractor_for(language).units(text.encode()) == Units(parses=False)


def test_deep_and_odd_texts_do_no_harm():
    for language in ("c", "javascript", "sql"):
        assert extractor_for(language).units(b"(" * 50_000) is not None
        assert extractor_for(language).units(b"") is not None


def test_a_text_that_takes_too_long_to_parse_is_left_out_and_the_next_is_read(monkeypatch):
    monkeypatch.setattr("data_pipelines.extract.syntax.MAX_PARSE_SECONDS", 0.0)
    extractor = extractor_for("java")
    endless = b"class A { int a = 1; }\n" * 400
    assert not extractor.parses(endless)
    assert extractor.units(endless) == Units(parses=False)
    assert not extractor.stands_alone(endless)
    monkeypatch.undo()
    assert extractor.parses(b"class B { int b = 1; }\n")
    assert extractor.parses(endless)


def test_a_cast_and_markup_are_both_typescript():
    extractor = extractor_for("typescript")
    assert extractor.parses(b"const a = <number>b;\nconst f = <T>(x: T) => x;\n")
    assert extractor.parses(b"const view = <Basket items={items}>{total}</Basket>;\n")
    assert extractor_for("javascript").parses(b"const view = <Basket items={items}>{total}</Basket>;\n")


GO = b"""package shop

import (
	"fmt"
	"strings"
)

/* A long comment about baskets
   that says nothing in code */
const limit = 9
"""


def test_no_target_is_made_of_comments_and_imports_alone():
    units = extractor_for("go").units(GO)
    section = InfillSection()
    assert [cut(GO, span) for span in units.spans[Stratum.LINE]] == ["const limit = 9"]
    for silent in (b'fmt"\n\t"strings', b"about baskets\n   that says", b'strings"\n)\n\n/* A long comment'):
        start = GO.index(silent)
        assert not is_worth_it(GO, Span(start, start + len(silent)), section, units=units)
    start = GO.index(b"in code */")
    assert is_worth_it(GO, Span(start, len(GO)), section, units=units)


def documented(language, text):
    return [unit.name for unit in extractor_for(language).units(text.encode()).functions]


BODY = "{\n  const a = 1;\n  const b = 2;\n  return a + b;\n}\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"/** Add. */\nfunction f() {BODY}", ["f"]),
        (f"let x = 1;\n/** Add. */\n\nfunction f() {BODY}", ["f"]),
        (f"/** This file adds. */\n\nfunction f() {BODY}", []),
        (f"let x = 1;\n/** Add. */\n\n\nfunction f() {BODY}", []),
        (f"// Not meant as doc.\nfunction f() {BODY}", []),
        (f"let x = 1; /** Trails. */\nfunction f() {BODY}", []),
        (f"/** Add. */\nexport const f = async () => {BODY}", ["f"]),
        (f"/** Add. */\napp.f = function f() {BODY}", ["app.f"]),
        ("/** Add. */\nfunction f() {}\n", []),
        ("/** Add. */\nconst f = () => 1 + 2;\n", []),
    ],
)
def test_which_comment_documents_which_function(text, names):
    assert documented("javascript", text) == names


def test_the_mark_that_ends_a_statement_belongs_to_the_function():
    text = b"-- Adds one.\nCREATE FUNCTION f() RETURNS int AS $$\n SELECT 1;\n$$ LANGUAGE sql;\nSELECT 1;\n"
    (unit,) = extractor_for("sql").units(text).functions
    assert cut(text, unit.whole).endswith("LANGUAGE sql;")


def test_a_run_of_line_comments_is_one_doc_and_a_shebang_is_none():
    text = "#!/bin/sh\nf() {\n  a\n  b\n}\n\n# One.\n\n# Two.\n# Three.\ng() {\n  a\n  b\n}\n"
    (unit,) = extractor_for("bash").units(text.encode()).functions
    assert cut(text.encode(), unit.doc) == "# Two.\n# Three."


@pytest.mark.parametrize(
    ("doc", "num_chars"),
    [
        ("/** Adds two numbers. */", 17),
        ("/// <summary>\n/// Adds two.\n/// </summary>", 9),
        ("/**\n * {@inheritDoc}\n */", 0),
        ("/**\n * @param a the first\n * @return a number\n */", 0),
        ("/******************/", 0),
    ],
)
def test_only_prose_counts_as_doc(doc, num_chars):
    language = "csharp" if "summary" in doc else "java"
    text = f"class A {{\n{doc}\nint f(int a) {{\n return a + 1; }}\n}}\n"
    (unit,) = extractor_for(language).units(text.encode()).functions
    assert unit.doc_chars == num_chars


def test_a_body_that_only_refuses_is_a_stub():
    text = '/** Adds. */\nclass A {\n/** Adds. */\nint f() {\n throw new UnsupportedOperationException(\n"x");\n}\n}\n'
    (unit,) = extractor_for("java").units(text.encode()).functions
    assert unit.is_stub


def test_spans_are_merged_looked_up_and_cut_out():
    text = b"0123456789"
    merged = merge([Span(7, 9), Span(1, 3), Span(2, 4), Span(4, 5)])
    assert merged == [Span(1, 5), Span(7, 9)]
    assert touches(merged, Span(4, 6))
    assert not touches(merged, Span(5, 7))
    assert not touches([], Span(0, 9))
    assert outside(text, Span(0, 10), merged=merged) == b"0569"
    assert outside(text, Span(2, 8), merged=merged) == b"56"
    assert outside(text, Span(2, 4), merged=merged) == b""
    assert trim(b"  a b \n", Span(0, 7)) == Span(2, 5)
    assert trim(b"   ", Span(0, 3)).start == trim(b"   ", Span(0, 3)).end


def test_many_spans_are_looked_up_at_once():
    merged = [Span(2, 4), Span(7, 9), Span(12, 13)]
    spans = [(start, end) for start in range(15) for end in range(start, 15)]
    assert SpanList.of(spans).touching(merged).tolist() == [touches(merged, Span(*span)) for span in spans]
    assert SpanList.of([]).touching(merged).tolist() == []


def test_a_query_compares_whole_words_however_long_and_wherever_they_stand():
    long = "source" + "e" * 90
    text = "# so\n" * 20_000 + f"{long} lib/none.sh\nsource lib/cart.sh\n"
    assert extractor_for("bash").units(text.encode()).imports == ["lib/cart.sh"]


def test_functions_of_one_statement_come_in_the_order_of_the_text():
    text = "/** Doc. */\nconst first = () => { a(function () {}); },\n  second = () => { return 1; };\n"
    units = extractor_for("javascript").units(text.encode())
    assert [unit.name for unit in units.functions] == ["first", "second"]


def test_a_text_of_unknown_syntax_gets_as_many_gaps_as_any_other():
    found = targets(C_TEXT, Units(parses=True), max_rows_per_file=8)
    assert len(found) == 8


def test_a_method_stands_alone_inside_a_class_only():
    code = b"@Override\npublic int f(int a) throws E {\n return a + 1;\n}\n"
    assert extractor_for("java").stands_alone(code)
    assert extractor_for("csharp").stands_alone(b"protected override int F(int a)\n{\n return a + 1;\n}\n")
    assert extractor_for("php").stands_alone(b"private function f(int $a): int {\n return $a + 1;\n}\n")
    assert not extractor_for("java").stands_alone(code.replace(b"{", b""))


def test_a_function_that_cannot_stand_alone_gives_no_row():
    text = b'def f(a):\n    """Adds one to what it is given."""\n    b = a\n    b += 1\n    return b\n'
    units = extractor_for("python").units(text)
    for language, num_rows in (("python", 1), ("java", 0)):
        extractor = extractor_for(language)
        rows = docstrings_of(File("a", "python"), text, units=units, extractor=extractor, section=DocstringSection())
        assert len(rows) == num_rows
