"""What tried to leave is told once, with its maker, of all processes of a command."""

import json
import subprocess
import sys
from pathlib import Path

from finetune.guard import record
from finetune.guard.record import JOURNAL_VARIABLE, note_attempt, read_untold

HEAD = """
import contextlib, json, os, socket, subprocess, sys
from dataclasses import asdict
from finetune.guard.offline import go_offline
from finetune.guard.record import journal_path, mark_told, open_journal, read_untold
ATTEMPT = "import contextlib, socket\\nwith contextlib.suppress(Exception): socket.create_connection(('192.0.2.1', 80))"

def told():
    found = read_untold()
    print(json.dumps({"attempts": [asdict(one) for one in found.attempts], "processes": len(found.processes)}))

open_journal()
go_offline()
"""
CHILD = (
    "subprocess.run([sys.executable, '-c', 'from finetune.guard.offline import go_offline; go_offline()\\n' + ATTEMPT])"
)


def run(body: str, tmp_path: Path) -> tuple[list[dict], str]:
    """What the process printed, a document a line, and its stderr; its journal lies in tmp_path."""
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    command = [sys.executable, "-c", HEAD + body]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_an_attempt_that_a_library_swallows_is_recorded_with_its_maker(tmp_path):
    library = tmp_path / "site-packages" / "nosy" / "client.py"
    library.parent.mkdir(parents=True)
    library.write_text(
        "import urllib.request\ndef report():\n"
        "    try:\n        urllib.request.urlopen('http://192.0.2.1/ping')\n    except Exception:\n        pass\n"
    )
    (told,), _ = run(
        f"sys.path.append({str(library.parents[1])!r})\nimport nosy.client\nnosy.client.report()\ntold()", tmp_path
    )
    (attempt,) = told["attempts"]
    assert (attempt["event"], attempt["address"]) == ("socket.getaddrinfo", "192.0.2.1")
    assert attempt["library"] == "nosy"
    assert "nosy/client.py:4 report" in attempt["stack"], "the line that called is named, and no folder of this machine"
    assert not any(str(tmp_path) in line or sys.prefix in line for line in attempt["stack"])


def test_a_call_of_our_own_is_ours_and_one_of_a_program_is_pythons(tmp_path):
    (told,), _ = run("exec(ATTEMPT)\ntold()", tmp_path)
    assert [one["library"] for one in told["attempts"]] == ["python"]
    own = "from finetune.guard.escape import _tcp\nwith contextlib.suppress(Exception): _tcp('192.0.2.1', 80)\ntold()"
    (told,), _ = run(own, tmp_path)
    assert [one["library"] for one in told["attempts"]] == ["finetune"]


def test_children_write_to_the_same_journal_and_it_goes_with_the_command(tmp_path):
    (told,), _ = run(f"{CHILD}\nexec(ATTEMPT)\ntold()", tmp_path)
    child, own = told["attempts"]
    assert child["process"] != own["process"]
    assert told["processes"] == 1
    assert list(tmp_path.iterdir()) == []


def test_what_was_told_is_not_told_again(tmp_path):
    first, second, third = run(f"{CHILD}\ntold()\nmark_told()\ntold()\nexec(ATTEMPT)\ntold()", tmp_path)[0]
    assert [len(one["attempts"]) for one in (first, second, third)] == [1, 0, 1]
    assert [one["processes"] for one in (first, second, third)] == [1, 0, 0]


def test_what_nobody_told_of_is_said_at_the_end(tmp_path):
    _, said = run("exec(ATTEMPT)", tmp_path)
    assert said.startswith(
        "Something tried to leave this machine and was refused, 1 times in all; the first was python"
    )
    assert run("exec(ATTEMPT)\nmark_told()", tmp_path)[1] == ""


def test_a_library_that_tries_for_ever_does_not_fill_the_disk(tmp_path):
    body = (
        "import finetune.guard.record as r\nr.MAX_ATTEMPTS = 3\nfor _ in range(10): exec(ATTEMPT)\ntold()\nmark_told()"
    )
    assert len(run(body, tmp_path)[0][0]["attempts"]) == 3


def test_without_a_folder_to_write_to_nothing_is_lost(tmp_path):
    missing = tmp_path / "nowhere" / "journal"
    body = f"os.environ[{JOURNAL_VARIABLE!r}] = {str(missing)!r}\nexec(ATTEMPT)\ntold()\nmark_told()\ntold()"
    assert [len(one["attempts"]) for one in run(body, tmp_path)[0]] == [1, 0]


def test_a_journal_is_private_and_no_link_is_followed(tmp_path):
    victim = tmp_path / "victim"
    body = (
        f"os.symlink({str(victim)!r}, journal_path())\nexec(ATTEMPT)\nos.unlink(journal_path())\nexec(ATTEMPT)\n"
        "print(json.dumps(oct(os.stat(journal_path()).st_mode & 0o777)))\nmark_told()"
    )
    assert run(body, tmp_path)[0] == ["0o600"]
    assert not victim.exists()


def test_a_second_command_line_of_a_process_has_a_journal_of_its_own(tmp_path):
    body = (
        "exec(ATTEMPT)\nopen_journal()\ntold()\n"
        f"del os.environ[{JOURNAL_VARIABLE!r}]\nopen_journal()\nexec(ATTEMPT)\ntold()\nmark_told()"
    )
    assert [len(one["attempts"]) for one in run(body, tmp_path)[0]] == [0, 1]
    assert list(tmp_path.iterdir()) == []


def test_what_was_told_of_memory_hides_nothing_of_the_journal(tmp_path, monkeypatch):
    """A disk that takes nothing for a while splits the record in two."""
    monkeypatch.setattr(record, "_MEMORY", ['{"told": 1}\n'])
    monkeypatch.setenv(JOURNAL_VARIABLE, str(tmp_path / "journal"))
    note_attempt("socket.connect", ("192.0.2.1", 443), sys._getframe())
    assert [attempt.address for attempt in read_untold().attempts] == ["192.0.2.1:443"]
