"""Progress tells a terminal from a pipe; tables align; a result is printed once."""

import io
import json

from finetune.terminal import progress as progress_module
from finetune.terminal.output import emit, note, table
from finetune.terminal.progress import Progress, format_seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_plain_lines_and_few(monkeypatch):
    clock = iter(range(0, 1000))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock) * 0.5)
    stream = io.StringIO()
    with Progress("Training", 100, stream=stream) as bar:
        for step in range(1, 101):
            bar.update(step, f"loss {step}")
    lines = stream.getvalue().splitlines()
    assert "\x1b" not in stream.getvalue()
    assert 3 <= len(lines) <= 20
    assert lines[-1].startswith("Training  100/100  loss 100")


def test_a_terminal_gets_a_bar_with_the_time_left(monkeypatch):
    clock = iter(range(0, 1000))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: float(next(clock)))
    stream = Terminal()
    with Progress("Training", 10, stream=stream) as bar:
        bar.update(5)
    assert "█" in stream.getvalue() and " left" in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_a_line_is_told_above_the_bar():
    stream, pipe = Terminal(), io.StringIO()
    for place in (stream, pipe):
        Progress("Training", 10, stream=place).tell("Longest pass: 9 tokens.")
    assert stream.getvalue().startswith("\r\x1b[KLongest pass: 9 tokens.\n\r\x1b[KTraining")
    assert pipe.getvalue().startswith("Longest pass: 9 tokens.\nTraining  0/10")


def test_a_resumed_bar_does_not_count_old_steps_into_the_time_left(monkeypatch):
    clock = iter([0.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: next(clock))
    stream = Terminal()
    bar = Progress("Training", 100, stream=stream, start_at=90)
    bar.update(95)
    assert "s left" in stream.getvalue()
    assert "10 s left" in stream.getvalue() or "5 s left" in stream.getvalue()


def test_seconds_as_a_person_writes_them():
    assert [format_seconds(value) for value in (42.4, 185, 7800)] == ["42 s", "3 min 05 s", "2 h 10 min"]


def test_a_table_sets_numbers_to_the_right():
    text = table([("infill", "1,200"), ("docstring", "7")], header=("task", "rows"))
    assert text.splitlines() == [
        "  task        rows",
        "  ---------  -----",
        "  infill     1,200",
        "  docstring      7",
    ]


def test_json_is_one_document_on_stdout(capsys):
    emit({"a": 1}, as_json=True, text="never seen")
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"a": 1}
    assert printed.err == ""


def test_what_is_shown_cannot_steer_the_terminal(capsys):
    name = "a\x1b[2J\x9b31m\u202e\r.py"
    emit({"name": name}, as_json=False, text=f"{name}\n\tb")
    emit({"name": name}, as_json=True, text="")
    note(name)
    shown = capsys.readouterr()
    text, _, document = shown.out.partition("{")
    assert text == "a\ufffd[2J\ufffd31m\ufffd\ufffd.py\n\tb\n" and shown.err == "a\ufffd[2J\ufffd31m\ufffd\ufffd.py\n"
    assert json.loads("{" + document) == {"name": name}
    assert all(sign.isprintable() for sign in document.replace("\n", ""))
