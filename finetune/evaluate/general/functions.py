"""Functions of the standard library to be written anew; the real library's outputs say whether they are right."""

import json
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.execution.jail import Jail, Limits

LIMITS = Limits(timeout_seconds=10.0, max_processes=8, output_bytes=1 << 16, disk_bytes=1 << 20)
# what the function gives, or that it failed, as JSON on the last line, after a word that the answer cannot know
GRADER = """
import json, sys
word, cases = sys.argv[1], json.loads(sys.argv[2])
scope = {"__name__": "answer"}
exec(compile(open("answer.py").read(), "answer.py", "exec"), scope)
print()
print(word, json.dumps([scope[sys.argv[3]](*given) for given in cases]))
"""


@dataclass(frozen=True, slots=True)
class FunctionTask:
    """A function to write: head is signature and docstring, cases are arguments with what they must give, as JSON."""

    name: str
    head: str
    cases: tuple[tuple[list[Any], Any], ...]


@dataclass(frozen=True, slots=True)
class Grade:
    """Whether an answer is right, how it ended, and why it could not be run; "" where it was."""

    passed: bool
    note: str = ""
    broken: str = ""


def function_tasks() -> tuple[FunctionTask, ...]:
    """The shipped functions."""
    rows = json.loads(Path(__file__).with_name("functions.json").read_text(encoding="utf-8"))
    return tuple(
        FunctionTask(
            name=row["call"].partition("(")[0],
            head=f'def {row["call"]}:\n    """{row["asked"]}"""\n',
            cases=tuple((given, wanted) for given, wanted in row["cases"]),
        )
        for row in rows
    )


def grade(task: FunctionTask, body: str, jail: Jail) -> Grade:
    """Run the function with body in the jail on all cases; equal as JSON, so that a tuple may be a list."""
    word = secrets.token_hex(16)
    program = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    inputs = json.dumps([given for given, _ in task.cases])
    with tempfile.TemporaryDirectory() as folder:
        found = jail.run(
            [str(program), "-I", "grader.py", word, inputs, task.name],
            tree=Path(folder),
            overlay={"answer.py": f"{task.head}{body}\n".encode(), "grader.py": GRADER.encode()},
            readable=[Path(sys.base_prefix)],
            limits=LIMITS,
        )
    if found.outcome == "infrastructure":
        return Grade(False, broken=found.note)
    told, _, outputs = found.stdout.rstrip("\n").rpartition("\n")[2].partition(" ")
    if found.exit_code != 0 or told != word:
        last = found.stderr.strip().rpartition("\n")[2]
        return Grade(False, note=last if found.outcome == "exited" else found.outcome)
    try:
        given = json.loads(outputs)
    except ValueError:
        return Grade(False, note="its output is no JSON")
    wanted = [output for _, output in task.cases]
    return Grade(given == wanted, note="" if given == wanted else f"it gave {outputs[:200]}")
