import pytest

from data_pipelines.document import Span, Stratum
from data_pipelines.mine.infill import infill_rows, is_worth_it
from data_pipelines.mine.search_replace import MARK, fill, search_replace_rows
from finetune.contracts.dataset import Role, Task
from finetune.contracts.edit_blocks import apply_blocks, read_blocks

STRATA = ("block", "statement", "call", "line", "tail", "random")


def only(stratum):
    return {"strata": {name: float(name == stratum) for name in STRATA}, "bytes_per_row": 100}


def part(row, role):
    return "".join(segment.text for segment in row.segments if segment.role is role)


def test_each_infill_row_is_its_file_byte_for_byte(shop_of):
    num_rows = 0
    for loaded in shop_of.files.values():
        rows = infill_rows(loaded.file, loaded.text, gaps=loaded.picks.infill, section=shop_of.tasks.infill)
        num_rows += len(rows)
        for row, gap in zip(rows, loaded.picks.infill, strict=True):
            whole = part(row, Role.PREFIX) + part(row, Role.TARGET) + part(row, Role.SUFFIX)
            assert whole.encode() == loaded.text
            assert part(row, Role.TARGET).encode() == loaded.text[gap.span.start : gap.span.end]
            assert [segment.role for segment in row.segments if segment.loss] == [Role.TARGET]
    assert num_rows > 3


def test_a_tail_runs_from_a_line_in_a_block_to_its_end_or_the_blank_line_before(make_shop):
    shop = make_shop("python", infill=only("tail"))
    gaps = [(loaded, gap) for loaded in shop.files.values() for gap in loaded.picks.infill]
    assert len(gaps) > 5
    for loaded, gap in gaps:
        assert gap.stratum is Stratum.TAIL
        target = loaded.text[gap.span.start : gap.span.end]
        line = loaded.text[loaded.text.rfind(b"\n", 0, gap.span.start) + 1 : gap.span.start]
        assert not line.strip(), "it begins where the code of a line begins"
        assert b"\n\n" not in target
        assert loaded.text[gap.span.end :].startswith(b"\n")
        assert target.count(b"\n") < 32


def test_a_long_tail_ends_after_32_lines(make_shop):
    text = "def f(x):\n" + "".join(f"    x += {n}\n" for n in range(90))
    shop = make_shop({"a.py": text}, infill={**only("tail"), "max_target_bytes": 5000})
    counts = {
        shop.files["a.py"].text[gap.span.start : gap.span.end].count(b"\n") for gap in shop.files["a.py"].picks.infill
    }
    assert max(counts) == 31


@pytest.mark.parametrize(
    "target", [b"# only a comment here", b"import math", b"from shop.price import add_tax", b"# one\n# and two"]
)
def test_comments_and_imports_alone_are_no_targets(target, make_shop):
    text = b"x = 1\n" + target + b"\ny = 2\n"
    section = make_shop({}).tasks.infill
    start = text.index(target)
    assert not is_worth_it(text, Span(start, start + len(target)), section)
    assert not is_worth_it(text, Span(start + 3, start + len(target)), section), "nor the rest of one"
    assert is_worth_it(text, Span(start, len(text) - 1), section)


def test_docstrings_are_no_targets(make_shop):
    text = 'def f(x):\n    """' + "Say one thing.\n    " * 40 + '"""\n    y = x + 1\n    return y\n'
    for stratum in ("line", "tail", "random"):
        shop = make_shop({"a.py": text}, infill={**only(stratum), "max_rows_per_file": 30})
        for gap in shop.files["a.py"].picks.infill:
            assert gap.span.end > text.rindex('"""') or gap.span.start < text.index('"""')


def test_directives_of_c_are_code(make_shop):
    text = b"int x;\n#define LIMIT (1 << 20)\nint y;\n"
    assert is_worth_it(text, Span(7, text.index(b"\nint y")), make_shop({}).tasks.infill)


def test_each_block_applies_once_and_gives_the_window_back(shop_of):
    num_rows = 0
    for loaded in shop_of.files.values():
        section = shop_of.tasks.search_replace
        rows = search_replace_rows(loaded.file, loaded.text, gaps=loaded.picks.search_replace, section=section)
        num_rows += len(rows)
        for row in rows:
            shown, answer = part(row, Role.CONTEXT), part(row, Role.ANSWER)
            ((path, block),) = read_blocks(answer)
            assert path == loaded.file.path
            assert shown.count(MARK) == 1
            assert block.search.count(MARK) == 1
            assert apply_blocks(shown, [block]) == loaded.text.decode()
            assert row.task is Task.SEARCH_REPLACE
    assert num_rows > 2


def test_windows_of_a_large_file_keep_their_limit(make_shop):
    text = "".join(f"def f_{n}(x):\n    y = x + {n}\n    return g_{n}(y)\n\n\n" for n in range(200))
    shop = make_shop({"a.py": text}, search_replace={"max_window_bytes": 700, "max_rows_per_file": 9})
    loaded = shop.files["a.py"]
    rows = search_replace_rows(
        loaded.file, loaded.text, gaps=loaded.picks.search_replace, section=shop.tasks.search_replace
    )
    assert len(rows) > 5
    for row in rows:
        shown = part(row, Role.CONTEXT)
        window = apply_blocks(shown, [block for _, block in read_blocks(part(row, Role.ANSWER))])
        assert window in text
        assert len(window.encode()) <= 700


@pytest.mark.parametrize(
    "text", [f"a = 1\n{MARK}\nb = 2\n", "a = 1\n=======\nb = 2\n", "a = 1\nb = 2"], ids=["mark", "divider", "no end"]
)
def test_what_no_block_can_say_gives_no_row(text, make_shop):
    section = make_shop({}).tasks.search_replace
    place = text.index("b = 2")
    assert fill(text.encode(), Span(place, place + 5), path="a.py", section=section) is None


def test_gaps_that_no_block_can_fill_are_not_picked(make_shop):
    shop = make_shop({"a.py": "def f(x):\n    y = x + 1\n    return y"}, search_replace=only("block"))
    assert shop.files["a.py"].picks.search_replace == ()
