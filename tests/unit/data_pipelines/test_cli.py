import json
import subprocess
import sys

import pytest

from data_pipelines.cli import app
from finetune.cli.errors import run_guarded
from finetune.guard.record import JOURNAL_VARIABLE, note_attempt


def run(*arguments, home=None):
    """home is that of a build, which would else write into the folder that the tests run in."""
    words = [str(word) for word in arguments] + (["--home", str(home)] if home else [])
    return run_guarded(
        lambda: app(args=words, prog_name="finetune data", standalone_mode=False),
        debug=False,
        as_json="--json" in words,
    )


@pytest.fixture(scope="module")
def dataset(shop, tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "shop"
    assert run("build", "--repo", shop, "--out", out, home=out.parent / "home") == 0
    return out


def test_build_prints_figures_and_the_next_command(shop, tmp_path, capsys):
    assert run("build", "--repo", shop, "--out", tmp_path / "out", home=tmp_path / "home") == 0
    shown = capsys.readouterr()
    assert "held-out files" in shown.out
    assert f"finetune data inspect {tmp_path / 'out'}" in shown.out
    assert "Building" in shown.err


def test_json_is_one_document_on_stdout(shop, tmp_path, dataset, capsys):
    assert run("build", "--repo", shop, "--out", tmp_path / "out", "--json", home=tmp_path / "home") == 0
    built = json.loads(capsys.readouterr().out)
    assert run("stats", tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out) == built
    assert run("inspect", dataset, "--task", "infill", "--limit", "2", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["examples"]) == 2


def test_inspect_shows_rows_with_their_place(dataset, capsys):
    assert run("inspect", dataset, "--task", "commit_edit", "--split", "heldout") == 0
    shown = capsys.readouterr().out
    assert "== commit_edit  heldout  shop:shop/jungle.py:" in shown
    assert "<<<<<<< SEARCH" in shown
    assert run("inspect", dataset, "--limit", "3") == 0
    assert capsys.readouterr().out.count("== ") == 3


def test_a_pipeline_file_and_a_repository(shop, tmp_path, capsys):
    pipeline = tmp_path / "p.yaml"
    pipeline.write_text("tasks:\n  pretrain:\n    enabled: false\n")
    assert run("build", pipeline, "--repo", shop, "--out", tmp_path / "out", home=tmp_path / "home") == 0
    assert "pretrain" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("build", "--repo", "{missing}", "--out", "{out}"), 3, "does not exist"),
        (("build", "--repo", "{file}", "--out", "{out}"), 3, "is a file"),
        (("build", "--repo", "{tmp}", "--out", "{out}"), 3, "no git repository"),
        (("build", "--repo", "{shop}"), 2, "--out"),
        (("build", "--out", "{out}"), 2, "--repo"),
        (("build", "{missing}", "--out", "{out}"), 3, "does not exist"),
        (("build", "{broken}", "--out", "{out}"), 3, "did you mean"),
        (("build", "--repo", "{shop}", "--out", "{file}"), 3, "is a file"),
        (("stats", "{missing}"), 3, "no dataset"),
        (("stats", "{tmp}"), 3, "manifest.json"),
        (("inspect", "{data}", "--task", "poetry"), 2, "infill, docstring, commit_edit, pretrain"),
        (("inspect", "{data}", "--split", "test"), 2, "train, heldout"),
    ],
)
def test_bad_input_is_one_message_with_its_exit_code(arguments, code, text, shop, dataset, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken.yaml").write_text("sede: 1\n")
    names = {
        "missing": tmp_path / "missing",
        "file": tmp_path / "file",
        "tmp": tmp_path,
        "out": tmp_path / "out",
        "shop": shop,
        "broken": tmp_path / "broken.yaml",
        "data": dataset,
    }
    home = tmp_path / "home" if arguments[0] == "build" else None
    assert run(*[word.format(**names) for word in arguments], home=home) == code
    shown = capsys.readouterr()
    assert text in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not (tmp_path / "out").exists()


def test_what_a_build_needs_the_next_time_lies_in_the_home_and_the_key_is_its_own(shop, tmp_path, capsys):
    for name in ("one", "two", "again"):
        home = tmp_path / "home" / ("one" if name == "again" else name)
        assert run("build", "--repo", shop, "--out", tmp_path / name, home=home) == 0
    keys = [(tmp_path / "home" / name / "data" / "redaction.key").read_bytes() for name in ("one", "two")]
    assert keys[0] != keys[1]
    one, two, again = (json.loads((tmp_path / name / "manifest.json").read_bytes()) for name in ("one", "two", "again"))
    assert one == again
    assert one["settings"] != two["settings"]
    assert sorted(path.name.rpartition("-")[0] for path in (tmp_path / "home" / "one" / "data").iterdir()) == [
        "",
        "again",
        "one",
    ]


def test_an_attempt_to_leave_fails_a_build_when_all_is_written_or_is_told(shop, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(JOURNAL_VARIABLE, str(tmp_path / "journal"))
    (tmp_path / "warn.yaml").write_text("egress: warn\n")
    words = ("build", "--repo", shop, "--out", tmp_path / "out")
    reports = []
    for extra, code in ((), 4), ((tmp_path / "warn.yaml",), 0), ((), 0):
        if len(reports) < 2:
            note_attempt("socket.connect", ("192.0.2.1", 443), sys._getframe())
        assert run(*words, *extra, home=tmp_path / "home") == code
        reports.append(json.loads((tmp_path / "out" / "egress.json").read_bytes()))
    assert [len(report["attempts"]) for report in reports] == [1, 1, 0]
    shown = capsys.readouterr().err
    assert "Error: Something tried to leave this machine during data build" in shown
    assert "Warning: Something tried to leave" in shown
    assert run("stats", tmp_path / "out") == 0, "the record is a part of the dataset's folder"


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest"])
def test_a_damaged_dataset_is_named(damage, shop, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("build", "--repo", shop, "--out", out, home=tmp_path / "home") == 0
    shard = out / "train-00000.parquet"
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:500])
    elif damage == "gone":
        shard.unlink()
    else:
        (out / "manifest.json").write_text("{")
    capsys.readouterr()
    assert run("inspect", out, "--split", "train") == 3
    assert str(out) in capsys.readouterr().err


def test_the_command_module_imports_nothing_heavy():
    code = (
        "import sys, data_pipelines.cli; heavy = {'torch', 'pyarrow', 'numpy', 'tree_sitter', 're2', 'pydantic'}; "
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["build", "stats", "inspect"])
def test_help_ends_with_two_examples(command, capsys):
    assert run(command, "--help") == 0
    assert capsys.readouterr().out.strip().rpartition("Examples:")[2].count("finetune data") == 2
