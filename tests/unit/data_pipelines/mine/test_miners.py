import ast

import pytest

from data_pipelines.document import Span
from data_pipelines.extract.python import PythonExtractor
from data_pipelines.mine.context import ContextFile, head_of
from data_pipelines.mine.infill import gap_row, is_worth_it
from data_pipelines.mine.pretrain import PartText, parts_of, pretrain_row
from data_pipelines.mine.row import line_range, row_id
from data_pipelines.task_config import DocstringSection, InfillSection, PretrainSection, RepoInfillSection
from finetune.contracts.dataset import Role, Task
from tests.unit.data_pipelines.mined import File, docstrings_of, infill_of, picks_of

EXTRACTOR = PythonExtractor()
DOCUMENT = File("shop/cart.py", "python")
BODY = "".join(
    f'''
class Cart{number}:
    def total_{number}(self, items, tax=0.2):
        """Return the total of the items in cart {number}, tax included — ü."""
        result = sum(item.price for item in items)
        if result > {number}:
            result += round(result * tax, 2)
        return result
'''
    for number in range(12)
)
TEXT = BODY.encode()


def infill(text=TEXT, **section):
    section = InfillSection.model_validate({"bytes_per_row": 150, "max_suffix_bytes": 6000, **section})
    return infill_of(DOCUMENT, text, units=EXTRACTOR.units(text), extractor=EXTRACTOR, section=section)


def docstrings(text):
    units = EXTRACTOR.units(text)
    assert units.parses
    return docstrings_of(DOCUMENT, text, units=units, extractor=EXTRACTOR, section=DocstringSection())


def part(row, role):
    return "".join(segment.text for segment in row.segments if segment.role is role)


@pytest.mark.parametrize("stratum", ["block", "statement", "call", "line", "tail", "random"])
def test_prefix_target_suffix_are_the_file(stratum):
    strata = {name: float(name == stratum) for name in ("block", "statement", "call", "line", "tail", "random")}
    rows = infill(strata=strata)
    assert len(rows) > 3
    for row in rows:
        assert row.stratum == stratum
        assert part(row, Role.PREFIX) + part(row, Role.TARGET) + part(row, Role.SUFFIX) == BODY
        assert [segment.role for segment in row.segments if segment.loss] == [Role.TARGET]
        place = row.provenance[0]
        target = part(row, Role.TARGET)
        lines = BODY.split("\n")[place.first_line - 1 : place.last_line]
        assert target.rstrip("\n") in "\n".join(lines)


def test_windows_are_whole_lines_of_the_file():
    for row in infill(max_prefix_bytes=300, max_suffix_bytes=200):
        window = part(row, Role.PREFIX) + part(row, Role.TARGET) + part(row, Role.SUFFIX)
        assert window in BODY
        assert len(part(row, Role.PREFIX).encode()) <= 300
        assert len(part(row, Role.SUFFIX).encode()) <= 200
        assert BODY[BODY.index(window) - 1] == "\n" or BODY.startswith(window)


def test_rows_are_the_same_each_time_and_differ_among_themselves():
    assert infill() == infill()
    ids = [row_id(row) for row in infill()]
    assert len(ids) == len(set(ids)) == 8


def test_targets_keep_their_limits_and_hold_no_placeholder():
    section = InfillSection()
    text = b"key = 'REDACTED_API_KEY_0123abcd'\nother = compute(key)\n"
    assert not is_worth_it(text, Span(0, 33), section)
    assert not is_worth_it(text, Span(0, len(text)), section)
    assert not is_worth_it(b"x" * 2000, Span(0, 900), section)
    assert not is_worth_it(b"x = )))))))))))))\n", Span(4, 15), section)
    assert not is_worth_it(b"x = 1\ny = 2\n", Span(0, 5), section)


def test_context_comes_first_unlearned_with_its_own_provenance():
    other = File("shop/price.py", "python", blob="d" * 40)
    file = ContextFile(other, b"import a\n\nimport b\n", ((1, 1), (3, 3)))
    section = RepoInfillSection(bytes_per_row=150)
    gaps = picks_of(DOCUMENT, TEXT, units=EXTRACTOR.units(TEXT), extractor=EXTRACTOR, repo_infill=section).repo_infill
    assert gaps
    for gap in gaps:
        row = gap_row(DOCUMENT, TEXT, gap=gap, section=section, task=Task.REPO_INFILL, context=[file])
        assert row.segments[0].role is Role.CONTEXT
        assert not row.segments[0].loss
        assert [(place.path, place.first_line, place.last_line) for place in row.provenance[1:]] == [
            ("shop/price.py", 1, 1),
            ("shop/price.py", 3, 3),
        ]


def test_infill_shows_no_other_file():
    assert all(segment.role is not Role.CONTEXT for row in infill() for segment in row.segments)


def test_head_of_cuts_at_a_line_and_never_in_a_character():
    assert head_of(b"one\ntwo\nthree\n", 9) == b"one\ntwo\n"
    assert head_of("üüü".encode(), 3) == "ü".encode()


def test_docstring_rows_stand_alone():
    rows = docstrings(TEXT)
    assert len(rows) == 6
    for row in rows:
        instruction, answer = (segment.text for segment in row.segments)
        assert instruction.startswith("def total_")
        assert instruction.endswith('"""')
        assert answer.startswith(instruction + "\n")
        assert ast.get_docstring(ast.parse(answer).body[0]).startswith("Return the total")
        assert [segment.loss for segment in row.segments] == [False, True]


@pytest.mark.parametrize(
    "code",
    [
        'def f(x):\n    """Too short."""\n    a = 1\n    b = 2\n    return a\n',
        'def f(x):\n    """A docstring that is long enough."""\n    return x\n',
        'def f(x):\n    """A docstring that is long enough."""\n    raise NotImplementedError(\n        "a",\n    )\n',
        'def f(x):\n    "A docstring that is long enough."; a = 1\n    b = 2\n    c = 3\n    return a\n',
        'if 1:\n  def f(x):\n    """A docstring that is long enough."""\n    a = """\nx\n"""\n    return a\n',
    ],
)
def test_functions_that_teach_nothing_or_cannot_stand_alone_give_no_row(code):
    assert docstrings(code.encode()) == []


def pretrain(section):
    cuts = picks_of(DOCUMENT, TEXT, units=EXTRACTOR.units(TEXT), extractor=EXTRACTOR, pretrain=section).cuts
    parts = parts_of(DOCUMENT.path, len(TEXT), cuts)
    return [pretrain_row([PartText(DOCUMENT, TEXT, one.start, one.end)]) for one in parts]


def test_pretrain_rows_are_whole_files_up_to_the_limit():
    (row,) = pretrain(PretrainSection())
    assert part(row, Role.TARGET) == BODY
    assert (row.provenance[0].first_line, row.provenance[0].last_line) == (1, BODY.count("\n"))


def test_a_file_above_the_limit_gives_rows_that_are_the_file_together():
    rows = pretrain(PretrainSection(max_bytes=500))
    assert len(rows) > 1
    assert "".join(part(row, Role.TARGET) for row in rows) == BODY
    assert max(len(part(row, Role.TARGET).encode()) for row in rows) <= 500
    lines = [(row.provenance[0].first_line, row.provenance[0].last_line) for row in rows]
    assert lines[0][0] == 1
    assert lines[-1][1] == BODY.count("\n")
    assert [first for first, _ in lines[1:]] == [last + 1 for _, last in lines[:-1]]


def test_line_ranges_are_one_based_and_inclusive():
    text = b"a\nb\nc\n"
    assert line_range(text, 0, 1) == (1, 1)
    assert line_range(text, 2, 4) == (2, 2)
    assert line_range(text, 0, 6) == (1, 3)
    assert line_range(text, 6, 6) == (4, 4)
