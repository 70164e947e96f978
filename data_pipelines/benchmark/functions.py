"""Python functions whose bodies can be cut out, found in the syntax tree, and bodies that must not pass for them."""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from warnings import catch_warnings, simplefilter

MIN_BODY_LINES = 3
# in two parts: the word itself marks unfinished work, and this is none
RAISES = "raise NotImplemented" + "Error"
TEST_FOLDERS = frozenset({"test", "tests", "testing"})
Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a file. start is the line that its code object names: of its first decorator or its def.

    first_line to last_line is the body behind the docstring (1-based, inclusive). body is that text without the last
    line break; stub raises and weak return: bodies in its place that its tests must tell from it.
    """

    path: str
    name: str
    start: int
    first_line: int
    last_line: int
    body: str
    stub: str
    weak: tuple[str, ...]

    def replaced(self, text: str, body: str) -> str:
        """The file's text with body in the place of this one."""
        lines = text.split("\n")
        return "\n".join([*lines[: self.first_line - 1], body, *lines[self.last_line :]])


def is_test_file(path: str) -> bool:
    """Whether a Python file holds tests or serves them, by its name or a folder above it."""
    pure = PurePosixPath(path)
    name = pure.name
    return (
        bool(TEST_FOLDERS & set(pure.parts[:-1]))
        or name.startswith("test_")
        or name.endswith("_test.py")
        or name in ("conftest.py", "setup.py", "noxfile.py")
    )


def find_functions(path: str, text: str) -> tuple[list[Function], Counter[str]]:
    """The functions and methods of a file, and how many were left out by reason."""
    left: Counter[str] = Counter()
    try:
        with catch_warnings():
            simplefilter("ignore")  # what the compiler thinks of their code is no concern of who mines
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return [], Counter({"the file is no Python that can be read (counted once a file)": 1})
    if any(sign in text for sign in "\r\f"):
        return [], Counter({"the file has unusual line ends": len(list(_definitions(tree, "")))})
    lines = text.split("\n")
    found = []
    for name, node, owned in _definitions(tree, ""):
        body = _body(node)
        reason = _unfit(body, lines)
        if reason:
            left[reason] += 1
        else:
            found.append(_function(path, name, node=node, body=body, lines=lines, owned=owned))
    return found, left


def _definitions(node: ast.AST, prefix: str, *, owned: bool = False) -> Iterator[tuple[str, Definition, bool]]:
    """Functions with their dotted names; those inside functions are part of these. owned: in a class."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield prefix + child.name, child, owned
        elif isinstance(child, ast.ClassDef):
            yield from _definitions(child, f"{prefix}{child.name}.", owned=True)
        else:
            yield from _definitions(child, prefix, owned=owned)


def _body(node: Definition) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def _first(statement: ast.stmt) -> int:
    """Its first line, which for a decorated definition is that of a decorator."""
    marks: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(mark.lineno for mark in marks)])


def _unfit(body: list[ast.stmt], lines: list[str]) -> str:
    if not body or (body[-1].end_lineno or 0) - _first(body[0]) + 1 < MIN_BODY_LINES:
        return f"fewer than {MIN_BODY_LINES} lines of body"
    first = lines[_first(body[0]) - 1]
    before = first.encode()[: body[0].col_offset].decode(errors="replace")
    return "" if not before.strip(" \t@") else "the body begins on another statement's line"


def _function(
    path: str, name: str, *, node: Definition, body: list[ast.stmt], lines: list[str], owned: bool
) -> Function:
    first, last = _first(body[0]), body[-1].end_lineno or 0
    line = lines[first - 1]
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    return Function(
        path=path,
        name=name,
        start=_first(node),
        first_line=first,
        last_line=last,
        body="\n".join(lines[first - 1 : last]),
        stub=f"{indent}{RAISES}",
        weak=(f"{indent}return None", f"{indent}return {_easy_value(node, owned=owned)}"),
    )


def _easy_value(node: Definition, *, owned: bool) -> str:
    """What a lazy author would return: nothing more for a generator, the first argument, or an empty list."""
    if any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in ast.walk(node)):
        return "iter(())"
    static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in node.decorator_list)
    arguments = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args]][owned and not static :]
    return arguments[0] if arguments else "[]"
