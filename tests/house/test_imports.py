"""What import-linter cannot say: command modules stay light, and a model's type is compared in its family only."""

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch", "transformers", "peft", "trl", "bitsandbytes", "mlflow", "datasets", "accelerate", "pyarrow", "numpy",
    "fastapi", "uvicorn", "matplotlib", "pandas", "scipy", "tree_sitter", "pydantic", "yaml", "httpx", "openai",
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_the_command_line_imports_nothing_heavy():
    assert modules_after("import finetune.cli.main") & HEAVY == set()


def test_the_package_itself_imports_nothing():
    ours = modules_after("import finetune") - modules_after("")
    assert ours == {"finetune"}


def test_a_recipe_is_checked_without_torch():
    code = (
        "from pathlib import Path\n"
        "from finetune.recipe.load import load_recipe\nfrom finetune.recipe.resolve import resolve\n"
        # the bases of most recipes are not here; a configuration is all that resolving reads
        "base = ['base.path=tests/assets/plan/qwen3_6-27b']\n"
        "paths = [path for path in Path('recipes').rglob('*.yaml') if 'data' not in path.parts]\n"
        "[resolve(load_recipe(path, base)) for path in paths]"
    )
    assert modules_after(code) & {"torch", "transformers", "mlflow", "pyarrow"} == set()


def model_type_comparisons(text: str) -> list[int]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = {side.attr for side in sides if isinstance(side, ast.Attribute)}
            names |= {side.id for side in sides if isinstance(side, ast.Name)}
            if "model_type" in names:
                found.append(node.lineno)
    return found


def test_model_types_are_compared_under_families_only():
    offenders = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in ("finetune", "data_pipelines", "serving")
        for path in (ROOT / package).rglob("*.py")
        if not path.is_relative_to(ROOT / "finetune" / "families")
        for line in model_type_comparisons(path.read_text())
    ]
    assert offenders == []


def test_the_scan_for_model_types_finds_one():
    assert model_type_comparisons("if config.model_type == 'llama':\n    pass") == [1]
