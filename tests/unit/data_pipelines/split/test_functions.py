import numpy as np
import pytest

from data_pipelines.document import Span
from data_pipelines.extract.registry import extractor_for
from data_pipelines.split.functions import (
    FunctionLines,
    changed,
    digests,
    function_digest,
    functions_of,
    pack_functions,
    touched,
    unpack_functions,
)

PLAIN = b"""def weigh(items, limit):
    total = 0
    for item in items:
        if item > limit:
            raise ValueError("too heavy # really")
        elif not item:
            continue
        total += item
    return total
"""
# what a formatter, a renaming and somebody who writes docs make of it
SAME = b"""def measure(
    items,
    limit,
):
    '''Measure them.

    It's "quoted".
    '''
    total = 0  # nothing yet
    for item in items:
        if (item > limit):
            raise ValueError('too heavy # really')
        else:
            if not item:
                continue
        # more
        total += item
    return (total)
"""


def found(text, language="python"):
    return functions_of(text, extractor_for(language).units(text), language=language)


def test_name_docs_comments_and_layout_do_not_count():
    assert found(PLAIN)[0].digest == found(SAME)[0].digest


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"total = 0", b"total = 1"), (b"items:", b"limit:"), (b"too heavy", b"too light"), (b"# r", b"# n")],
)
def test_code_and_strings_count(old, new):
    assert old in PLAIN
    assert found(PLAIN)[0].digest != found(PLAIN.replace(old, new, 1))[0].digest


def test_a_function_of_a_docstring_alone_is_equal_to_any_other():
    one, other = b'def a(self):\n    """Do a."""\n', b"def b(self):\n    'Do b.'\n"
    assert found(one)[0].digest == found(other)[0].digest


def test_its_own_name_is_left_out_once():
    """Two functions that call b are equal although one of them is b."""
    assert function_digest(b"def a(): return b()", [], name="a") == function_digest(
        b"def b(): return b()", [], name="b"
    )


def test_other_languages_leave_out_their_comments():
    one = b"func Weigh(a int) int {\n\t// heavy\n\treturn a * 2\n}\n"
    other = b"// Size says how large.\nfunc Size(a int) int {\n\treturn a * 2 /* twice */\n}\n"
    assert (
        digests(found(b"package p\n\n" + one, "go")).tolist() == digests(found(b"package p\n\n" + other, "go")).tolist()
    )


def test_methods_and_inner_functions_have_digests_of_their_own():
    inner = b"def g(x):\n    return x + 1\n"
    text = b"class A:\n    def f(self):\n        def g(x):\n            return x + 1\n        return g\n\n" + inner
    functions = found(text)
    assert len(functions) == 3
    assert len(digests(functions)) == 2


def test_a_target_touches_what_it_lies_in_holds_or_cuts():
    text = b"def a():\n    return 1\n\n\ndef b():\n    return 2\n\n\nx = 3\n"
    first, second = found(text)
    assert touched([first, second], Span(14, 20)).tolist() == [first.digest]
    assert len(touched([first, second], Span(0, len(text)))) == 2
    assert len(touched([first, second], Span(text.index(b"x ="), len(text)))) == 0


def test_an_edit_makes_the_functions_that_were_not_there():
    before, after = (
        found(b"def a():\n    return 1\n\ndef b():\n    return 2\n"),
        found(PLAIN + b"\ndef b():\n    return 2\n"),
    )
    assert changed(before, after).tolist() == [after[0].digest]
    assert changed(after, after).dtype == np.uint64
    assert len(changed(after, after)) == 0


def test_what_is_silent_in_a_function_is_left_out_of_it_and_of_no_other():
    text = b"# of the file\n" + PLAIN.replace(b"total = 0", b"total = 0  # one") + b"\n# two\n" + PLAIN + b"# three\n"
    first, second = found(text)
    assert first.digest == second.digest == found(PLAIN)[0].digest


def test_packed_functions_come_back_with_their_lines():
    text = b"\n\n" + PLAIN + b"\ndef one(): return 1"
    functions = found(text)
    assert unpack_functions(pack_functions(text, [])) == []
    assert unpack_functions(pack_functions(text, functions)) == [
        FunctionLines(3, 11, functions[0].digest),
        FunctionLines(13, 13, functions[1].digest),
    ]
