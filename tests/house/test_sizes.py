"""Sizes and shapes of house.md section 7, read from the syntax trees of all tracked Python files."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 400
MAX_TEST_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_CHAIN = 4
MAX_POSITIONAL = 2
BANNED_NAMES = {"utils", "helpers", "common", "misc", "manager"}
# typer declares options as parameters of the command, in the order of the help page
COMMAND_MODULES = (
    "data_pipelines/benchmark/command.py", "data_pipelines/cli.py", "finetune/cli/",
    "serving/access/audit_command.py", "serving/access/command.py", "serving/cli.py",
)  # fmt: skip


def tracked_python() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return [name for name in listing if name and (ROOT / name).is_file()]


FILES = tracked_python()
PRODUCT = [name for name in FILES if not name.startswith(("tests/", "bench/"))]


def functions(name: str) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """Each function of a file, and whether it is a method."""
    tree = ast.parse((ROOT / name).read_text())
    methods = {id(child) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for child in node.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, id(node) in methods


def chain_length(node: ast.If) -> int:
    length = 1
    while len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        node = node.orelse[0]
        length += 1
    return length


def too_long(names: list[str]) -> list[str]:
    limit = {True: MAX_TEST_LINES, False: MAX_LINES}
    return [
        f"{name}: {lines} lines"
        for name in names
        if (lines := (ROOT / name).read_text().count("\n")) > limit[name.startswith("tests/")]
    ]


def long_functions(names: list[str]) -> list[str]:
    return [
        f"{name}:{node.lineno} {node.name}: {span} lines"
        for name in names
        for node, _ in functions(name)
        if (span := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def long_chains(names: list[str]) -> list[str]:
    return [
        f"{name}:{node.lineno}: {length} branches"
        for name in names
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, ast.If) and (length := chain_length(node)) > MAX_CHAIN
    ]


# Called by a library, in the library's way: docs/decisions/003.
PRESCRIBED = {
    ("finetune/embedded/forward.py", "forward"): "torch.autograd.Function",
    ("finetune/model/activations.py", "forward"): "torch.autograd.Function",
    ("finetune/model/experts.py", "packed_experts_forward"): "transformers",
    ("finetune/model/fused_delta.py", "fused_delta_rule"): "transformers",
    ("finetune/model/fused_delta.py", "fused_causal_conv1d"): "transformers",
    ("finetune/model/gated_delta.py", "chunk_gated_delta_rule"): "transformers",
    ("finetune/model/gated_delta.py", "causal_conv1d"): "transformers",
    ("finetune/train/trl_bridge.py", "on_pre_optimizer_step"): "transformers.TrainerCallback",
    ("finetune/train/trl_bridge.py", "on_log"): "transformers.TrainerCallback",
}


def wide_signatures(names: list[str]) -> list[str]:
    found = []
    for name in names:
        if name.startswith(COMMAND_MODULES):
            continue
        for node, is_method in functions(name):
            dunder = node.name.startswith("__") and node.name.endswith("__")
            positional = len(node.args.posonlyargs) + len(node.args.args) - is_method
            required = positional - len(node.args.defaults)
            if (
                not dunder
                and (name, node.name) not in PRESCRIBED
                and not node.name.startswith("_")
                and (positional > MAX_POSITIONAL + 1 or required > MAX_POSITIONAL + 1)
            ):
                found.append(f"{name}:{node.lineno} {node.name}: {positional} positional parameters")
    return found


def banned_names(names: list[str]) -> list[str]:
    return [name for name in names if BANNED_NAMES & {part.removesuffix(".py") for part in Path(name).parts}]


@pytest.mark.parametrize("find", [too_long, banned_names])
def test_files_keep_to_the_sizes_and_names(find):
    assert find(FILES) == []


@pytest.mark.parametrize("find", [long_functions, long_chains, wide_signatures])
def test_functions_keep_to_the_sizes(find):
    assert find(PRODUCT) == []


def test_the_finders_find(tmp_path, monkeypatch):
    """Each finder sees a planted offender: a check that cannot fail is no check."""
    chain = "if a:\n    pass\n" + "elif a:\n    pass\n" * 4
    body = "\n".join(f"    x{i} = {i}" for i in range(70))
    text = f"def long(a, b, c, d):\n{body}\n{chain}" + "\n" * 400
    (tmp_path / "utils.py").write_text(text)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for find in (too_long, long_functions, long_chains, wide_signatures, banned_names):
        assert len(find(["utils.py"])) == 1, find


def test_nothing_is_left_undone():
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")
    left = [f"{name}: {mark}" for name in PRODUCT for mark in marks if mark in (ROOT / name).read_text()]
    assert left == []
