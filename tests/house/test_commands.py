"""Each command line that a message, a page or a recipe tells the user to type is one that exists, with its options."""

import re
from pathlib import Path

import pytest
import typer

from finetune.cli.main import app
from finetune.cli.reference import help_text

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("finetune", "data_pipelines", "serving", "recipes", "docs", "README.md", "CONTRIBUTING.md")
# After a backtick, the start of a line of a page, a comment sign, or the words that lead to a command in a message
LED = re.compile(r"(?:`|^|^# *|^#   |Type: |run: |Next: |Start one: )(?:\.venv/bin/)?finetune ([a-z-][^`\n\"]*)", re.M)


def groups(group: typer.Typer = app, above: str = "") -> dict[str, set[str]]:
    """Commands and groups by the words that lead to them, each with the names under it."""
    found: dict[str, set[str]] = {
        f"{above}{command.name or ''}".strip(): set() for command in group.registered_commands
    }
    for one in group.registered_groups:
        inner = one.typer_instance
        assert isinstance(inner, typer.Typer) and one.name
        found[f"{above}{one.name}"] = {
            str(item.name) for item in (*inner.registered_commands, *inner.registered_groups)
        }
        found.update(groups(inner, f"{above}{one.name} "))
    return found


def command_of(words: list[str], known: dict[str, set[str]]) -> list[str]:
    """The words that lead to a command, as far as groups go; empty for one that does not exist."""
    path = words[:1] if words[0] in known else []
    for word in words[1:] if path else []:
        names, below = word.split("|"), known[" ".join(path)]
        if not below or not names[0] or word.startswith("-"):
            break
        if not {name for name in names if name} <= below:
            return []
        path.append(names[0])
    return path


def wrong_commands(text: str) -> list[str]:
    """Command lines in text that no parser would take: an unknown name, or an option that its help does not show."""
    known, wrong = groups(), []
    for line in LED.findall(text):
        words = re.split(r"\s+#|\s{3,}", line)[0].split()
        first, *rest = [re.sub(r"[^\w|-].*$", "", word) for word in words]
        if first.startswith("-"):
            continue
        path = command_of([first, *rest], known)
        if not path:
            wrong.append(line)
            continue
        shown = help_text(path)
        wrong += [line for word in rest if word.startswith("--") and word.strip("`") not in shown]
    return wrong


@pytest.mark.parametrize("place", PLACES)
def test_commands_that_the_user_is_told_to_type_exist(place):
    start = ROOT / place
    files = (
        [start] if start.is_file() else [path for path in start.rglob("*") if path.suffix in {".py", ".md", ".yaml"}]
    )
    wrong = {str(path.relative_to(ROOT)): found for path in files if (found := wrong_commands(path.read_text()))}
    assert wrong == {}


def test_the_scan_finds_an_unknown_command_and_an_unknown_option():
    assert wrong_commands("Run `finetune doktor`, then `finetune recipe list`.") == ["doktor"]
    assert wrong_commands("finetune serve sing NAME\n") == ["serve sing NAME"]
    assert wrong_commands("`finetune serve key make NAME`") == ["serve key make NAME"]
    assert wrong_commands("`finetune doctor --home D`, `finetune doctor --fast`") == ["doctor --fast"]
    assert wrong_commands("`finetune serve key create NAME --scope infer --fast`") == [
        "serve key create NAME --scope infer --fast"
    ]
    assert wrong_commands("`finetune train RECIPE --faster`") == ["train RECIPE --faster"]
    assert wrong_commands("`finetune train RECIPE --set a=b` and `finetune data build --repo . --out D`") == []
