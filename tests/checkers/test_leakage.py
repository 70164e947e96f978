"""The checker finds every kind of leak that is planted, and nothing in a dataset without one."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.checkers.leakage import KINDS, TOKEN, check, function_blocks, main, pieces

ROOT = Path(__file__).resolve().parents[2]
FUNCTION = """def weigh(items, limit):
    '''Weigh {doc}.'''
    total = {start}
    for item in items:
        total += item
    return total
"""


def segment(role, text, loss=False):
    return {"role": role, "text": text, "path": None, "loss": loss}


def row(name, segments, *, task="infill", split="train", **origin):
    provenance = {"repo": "r", "commit": f"c-{name}", "path": f"{name}.py", "blob": f"b-{name}"} | origin
    return {
        "id": name,
        "task": task,
        "language": "python",
        "segments": segments,
        "provenance": [provenance],
        "split": split,
        "slice": "novel" if split == "heldout" else None,
    }


def gap(name, prefix, target, suffix, **more):
    parts = [segment("prefix", prefix), segment("suffix", suffix), segment("target", target, loss=True)]
    return row(name, parts, **more)


def answer(name, instruction, text, *, task="docstring", **more):
    return row(name, [segment("instruction", instruction), segment("answer", text, loss=True)], task=task, **more)


def edit(name, message, path, old, new, **more):
    block = f"{path}\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"
    return answer(name, message, block, task="commit_edit", **more)


def words(topic, count=14):
    return " ".join(f"{topic}{place}" for place in range(count))


CLEAN = [
    gap("t1", "import os\n", f"x = {words('a')}\n", "y = 1\n"),
    answer("t2", "Write it.", FUNCTION.format(doc="apples", start=1)),
    edit("t3", "Start at two (#7)", "src/shop.py", "total = 1\n", "total = 2\n"),
    row("t4", [segment("target", words("b", 40), loss=True)], task="pretrain"),
    gap("n1", "import os\n", f"z = {words('n')}\n", "y = 1\n", split="heldout"),
    answer("n2", "Write it.", FUNCTION.format(doc="pears", start=9).replace("item", "pear"), split="heldout"),
    edit("n3", "Stop at three (#8)", "src/stop.py", "stop = 1\n", "stop = 3\n", split="heldout"),
]
PLANTED = {
    "run": gap("n9", "", words("a", 10), "", split="heldout"),
    "run of a short target": gap("n9", words("b", 6) + " ", "b6", " b7 b8 b9 b10", split="heldout"),
    "run in an answer": answer("n9", "", "y = 1\n" + words("b", 11), split="heldout"),
    "function": answer("n9", "", FUNCTION.format(doc="other things", start="1").replace("weigh", "m"), split="heldout"),
    "function around a gap": gap(
        "n9",
        "import re\n\n\ndef other(items, limit):\n    total = 1\n    for item in items:\n",
        "        total += item",
        "\n    return total\n\n\nx = 1\n",
        split="heldout",
    ),
    "commit": edit("n9", "Stop", "stop.py", "a = 1\n", "a = 2\n", split="heldout", commit="c-t3"),
    "request": edit("n9", "Go on\n\nThis is about #7.", "stop.py", "a = 1\n", "a = 2\n", split="heldout"),
    "change": edit("n9", "Pick it", "lib/shop.py", "x\ntotal  = 1\n", "x\ntotal  = 2\n", split="heldout"),
    "blob": gap("n9", "", "q", "", split="heldout", blob="b-t1"),
    "file": gap("n9", "", "q", "", split="heldout", blob="b-t1", path="t1.py"),
}


def save(folder, rows):
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({}))
    for split in ("train", "heldout"):
        own = [row for row in rows if row["split"] == split]
        pq.write_table(pa.Table.from_pylist(own), folder / f"{split}-00000.parquet")
    pq.write_table(pa.table({"reason": ["vendored"]}), folder / "dropped.parquet")
    return folder


def test_a_dataset_without_a_leak_has_none(tmp_path):
    sought, leaks = check(save(tmp_path / "d", CLEAN))
    assert (sought.num_rows, sought.num_functions) == (3, 1)
    assert not leaks, leaks


@pytest.mark.parametrize("name", PLANTED)
def test_each_kind_of_leak_is_found(tmp_path, name, capsys):
    folder = save(tmp_path / "d", [*CLEAN, PLANTED[name]])
    kind = name.split(" ")[0]
    _, leaks = check(folder)
    assert list(leaks.pairs[kind]) == ["n9"]
    assert main([str(folder)]) == 1
    assert f"{kind}: novel n9 and train t" in capsys.readouterr().out


def test_every_kind_is_planted():
    assert {name.split(" ")[0] for name in PLANTED} == set(KINDS)


@pytest.mark.parametrize("name", PLANTED)
def test_the_same_rows_are_no_leak_in_the_evolving_slice(tmp_path, name):
    planted = {**PLANTED[name], "slice": "evolving"}
    assert not check(save(tmp_path / "d", [*CLEAN, planted]))[1]


def test_the_runs_are_found_in_any_number_of_passes(tmp_path):
    folder = save(tmp_path / "d", [*CLEAN, PLANTED["run"], {**PLANTED["run in an answer"], "id": "n8"}])
    _, leaks = check(folder, runs_per_pass=1)
    assert sorted(leaks.pairs["run"]) == ["n8", "n9"]


def test_runs_of_nine_tokens_and_frames_of_blocks_are_no_leak(tmp_path):
    nine = answer("n9", "", "y = 1\n" + words("b", 9), split="heldout")
    assert not check(save(tmp_path / "d", [*CLEAN, nine]))[1]
    assert pieces(
        "a.py\n<<<<<<< SEARCH\nx\n=======\n>>>>>>> REPLACE\n<<<<<<< SEARCH\ny\n=======\nz\n>>>>>>> REPLACE\n"
    ) == [
        "x\n",
        "y\n",
        "z\n",
    ]


def test_a_function_that_a_window_cuts_is_not_taken_for_a_short_one(tmp_path):
    cut = gap("t9", "", "q", "\n\n\ndef weigh(items, limit):\n    total = 5\n")
    short = answer("n9", "", "def weigh(items, limit):\n    total = 5\n", split="heldout")
    assert not check(save(tmp_path / "d", [*CLEAN, cut, short]))[1].pairs["function"]


def test_code_in_strings_is_no_function():
    code = FUNCTION.replace(
        "    total = {start}\n", '    run("""\ndef a():\n    return 1\n""")\n    run("def b(): pass")\n'
    )
    nested = "    def inner():\n        return 2\n"
    text = f"{code}{nested}\n\nx = 1\n"
    found = [block for _, block in function_blocks(text, is_cut=True)]
    assert found == [f"{code}{nested}\n\n", f"{nested}\n\n"]


def test_a_novel_row_may_show_a_file_of_train(tmp_path):
    shows = gap("n9", "", "q", "", split="heldout")
    shows["segments"] = [{**part, "path": "n9.py"} for part in shows["segments"]]
    shows["provenance"].append({"repo": "r", "commit": "c-t1", "path": "t1.py", "blob": "b-t1"})
    assert not check(save(tmp_path / "d", [*CLEAN, shows]))[1]
    shows["provenance"][0]["blob"] = "b-t1"
    assert list(check(save(tmp_path / "d", [*CLEAN, shows]))[1].pairs["blob"]) == ["n9"]


def test_tokens_are_words_and_single_characters():
    assert TOKEN.findall("naïve_1 += f(x)→\x1f") == ["naïve_1", "+", "=", "f", "(", "x", ")", "→", "\x1f"]


def test_it_runs_as_a_module_and_imports_nothing_of_the_product(tmp_path):
    folder = save(tmp_path / "d", [*CLEAN, PLANTED["run"]])
    command = "import sys; from tests.checkers.leakage import main; status = main(sys.argv[1:]);" + (
        "print(sorted(n for n in sys.modules if n.split('.')[0] in ('data_pipelines', 'finetune'))); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", command, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("4 novel rows")
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("arguments", [[], ["nowhere"], ["a", "b"]])
def test_wrong_arguments_are_told(arguments, capsys):
    assert main(arguments) == 2
    assert "usage" in capsys.readouterr().err


def test_a_dataset_without_novel_rows_proves_nothing(tmp_path, capsys):
    assert main([str(save(tmp_path / "d", [*CLEAN[:4], {**CLEAN[4], "slice": "evolving"}]))]) == 2
    assert "nothing was checked" in capsys.readouterr().err
