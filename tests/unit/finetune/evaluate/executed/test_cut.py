"""A body ends where its statements do, whatever its strings and comments look like."""

import ast
import inspect
import textwrap
from pathlib import Path

import pytest

from finetune.evaluate.executed import cut
from finetune.evaluate.executed.cut import cut_body

PYTHON_BODIES = {
    "plain": "total = 0\n    for x in y:\n        total += x\n    return total",
    "a string that ends it": 'return """\nnot code\n"""',
    "a string with code in it": 'text = """\ndef other():\n    pass\n"""\n    return text',
    "a comment at the margin": "x = 1\n# x = 2\n    return x",
    "a comment with a quote": "x = 1  # don't\n    return x",
    "brackets that close at the margin": "return call(\n    1,\n)",
    "a line that goes on": "x = 1 + \\\n2\n    return x",
    "a quote in a quote": "return '\"' + \"'\" + '\\''",
    "a nested function": "def inner():\n        return 1\n\n    return inner",
}


MORE = (
    "",
    "\n\n\ndef other():\n    return 2\n",
    "\n\n  def method(self):\n    pass",
    "\nx = '''\n",
    '\n"""doc"""\n',
)


@pytest.mark.parametrize("body", PYTHON_BODIES.values(), ids=PYTHON_BODIES)
@pytest.mark.parametrize("more", MORE)
def test_what_is_less_indented_is_no_part_of_a_python_body(body: str, more: str) -> None:
    assert cut_body(body + more, language="python", indent="    ") == body


JAVASCRIPT_BODY = "if (/[\"'{/]/.test(a / b)) { return `}${'}'}`; }\n  // }\n  /* } */ return '}' + \"}\" + '\\'}';"
JAVASCRIPT_NESTED = "const a = `x ${list.map((y) => `}${y}`).join('`}')} }`;\n  return /}/.test(a) && typeof /[{]/g;"
GO_BODY = "x := `}\n}`\nagain:\n\tfor {\n\t\tif x == \"}\" || y == '}' {\n\t\t\tbreak again\n\t\t}\n\t}\n\treturn x"
JAVA_BODY = 'String x = """\n  }\n  """;\n    char c = \'}\';\n    return x + "}"; /* } */'


@pytest.mark.parametrize(
    ("language", "body"),
    [
        ("javascript", JAVASCRIPT_BODY),
        ("javascript", JAVASCRIPT_NESTED),
        ("typescript", JAVASCRIPT_BODY),
        ("go", GO_BODY),
        ("java", JAVA_BODY),
    ],
)
@pytest.mark.parametrize("more", ["", "\n}", "\n}\n\nfunction next() { return 1; }\n", " }"])
def test_a_bracket_that_was_not_opened_ends_a_body(language: str, body: str, more: str) -> None:
    assert cut_body(body + more, language=language, indent="  ") == body


def test_every_function_of_a_real_file_is_cut_where_it_ends() -> None:
    source = Path(inspect.getfile(textwrap)).read_text() + Path(cut.__file__).read_text()
    lines = source.split("\n")
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 15
    for node in functions:
        first, last = node.body[0].lineno - 1, node.end_lineno
        indent = " " * node.body[0].col_offset
        rest = "\n".join([lines[first][len(indent) :], *lines[first + 1 :]])
        wanted = "\n".join([lines[first][len(indent) :], *lines[first + 1 : last]])
        assert cut_body(rest, language="python", indent=indent) == wanted, node.name
