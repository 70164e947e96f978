"""Whole builds over a real repository with a teacher that is a real HTTP server on loopback."""

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_pipelines.engine import reader, writer
from data_pipelines.lineage.removal import forget, plan_removal, subject_of
from data_pipelines.questions import teacher as teacher_module
from data_pipelines.questions.answers import FileAnswers
from finetune.contracts.dataset import Role, Split, Task
from finetune.contracts.errors import InputError
from finetune.contracts.run import Home
from tests.unit.data_pipelines.building import KEY, build_from, bytes_of, config_of, rows_of
from tests.unit.data_pipelines.conftest import module_text

SOURCE = re.compile(r"### (\S+)\n(\d+)\| ")
LINE = re.compile(r"^(\d+)\| (.*)$", re.MULTILINE)
# put together here, so that nothing in this file is a key
SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
WHY = "The total of the harbour was too low for what the customers weigh there, so the sum has to begin with one."


class School:
    """A teacher that answers about whatever it is shown, and keeps what it was sent; status is what it answers with."""

    def __init__(self):
        self.seen = []
        self.status = 200
        school = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = "\n".join(message["content"] for message in body["messages"])
                school.seen.append(text)
                content = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer(text)}}]})
                self.send_response(school.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def answer(prompt):
    said = "It adds up roots of entries and refuses whatever lies above that limit with a plain error instead."
    if "training material" not in prompt:
        return said
    path, first = SOURCE.search(prompt).groups()
    cited = f"{path}:{first}-{int(first) + 3}"
    return json.dumps(
        {"question": f"What does the code of {path} do beyond its limit?", "answer": said, "citations": [cited]}
    )


@pytest.fixture
def school(monkeypatch):
    monkeypatch.setattr(teacher_module, "WAIT_SECONDS", 0.0)
    made = School()
    yield made
    made.close()


def pipeline(paths, out, school=None, *, qa=None, **settings):
    teacher = {"teacher": {"url": school.url, "model": "local"}} if school else {}
    tasks = {"qa": {"max_seeds_per_source": 40, **teacher, **(qa or {})}}
    return config_of(paths, out, tasks=tasks, **settings)


def build(paths, out, school=None, **settings):
    return build_from(pipeline(paths, out, school, **settings), out)


def qa_of(out):
    return [row for row in rows_of(out) if row.task is Task.QA]


def test_answers_become_rows_on_the_side_of_the_files_they_cite(shop, school, tmp_path):
    manifest = build([shop], tmp_path / "out", school)
    rows = qa_of(tmp_path / "out")
    assert {row.split for row in rows} == set(Split)
    assert {row.stratum for row in rows} == {"symbol", "fragment"}
    sides = {}
    for row in [row for row in rows_of(tmp_path / "out") if row.task is Task.PRETRAIN]:
        for place in row.provenance:
            sides[place.path] = row.split
    for row in rows:
        for place in row.provenance:
            assert sides[place.path] is row.split
            assert (place.committed_at >= manifest.split.cutoff_at) == (row.split is Split.HELDOUT)
        shown = next(segment for segment in row.segments if segment.role is Role.CONTEXT)
        assert shown.path == row.provenance[0].path
        assert LINE.findall(shown.text)[0][0] == str(row.provenance[0].first_line)
    # each prompt shows files of one side alone
    for prompt in school.seen:
        assert len({sides[path] for path, _ in SOURCE.findall(prompt)}) == 1
    assert manifest.sources[0].state == "whole"
    assert sum(row.examples for row in manifest.counts if row.task is Task.QA) == len(rows)


def test_a_commit_that_says_why_is_asked_about(make_repository, school, tmp_path, shop):
    builder = make_repository("grown")
    builder.git("pull", "-q", str(shop), "main")
    builder.now += 30 * 86_400
    text = (builder.path / "shop/harbour.py").read_text().replace("total_harbour_2 = 2", "total_harbour_2 = 1")
    builder.commit({"shop/harbour.py": text}, f"Start the harbour total at one\n\n{WHY}")
    build([builder.path], tmp_path / "out", school, qa={"max_seeds_per_source": 500})
    (row,) = [row for row in qa_of(tmp_path / "out") if row.stratum == "commit"]
    assert (row.split, row.provenance[0].path) == (Split.HELDOUT, "shop/harbour.py")
    assert any(WHY in prompt and "total_harbour_2 = 1" in prompt for prompt in school.seen)


def test_without_a_teacher_nothing_differs(shop, school, tmp_path):
    build([shop], tmp_path / "plain")
    build([shop], tmp_path / "off", school, qa={"enabled": False})
    build([shop], tmp_path / "on", school)
    plain, off = bytes_of(tmp_path / "plain"), bytes_of(tmp_path / "off")
    assert [name for name in plain if plain[name] != off[name]] == ["manifest.json", "report.html"]

    # the rows of other tasks are those of a build without questions
    def others(name):
        return [row for row in rows_of(tmp_path / name) if row.task is not Task.QA]

    assert others("on") == others("plain")


def test_a_second_build_asks_nothing_and_reads_nothing(shop, school, tmp_path, monkeypatch):
    build([shop], tmp_path / "out", school)
    was, asked = bytes_of(tmp_path / "out"), len(school.seen)
    read = []
    monkeypatch.setattr(reader.Reader, "_file", lambda self, item: read.append(item))
    build([shop], tmp_path / "out", school)
    (tmp_path / "out" / "report.html").unlink()
    build([shop], tmp_path / "out", school)
    assert (len(school.seen), read, bytes_of(tmp_path / "out")) == (asked, [], was)


def test_a_teacher_that_comes_later_has_nothing_read_or_written_again(shop, school, tmp_path, monkeypatch):
    build([shop], tmp_path / "out")
    again = []
    monkeypatch.setattr(reader.Reader, "_file", lambda self, item: again.append(item))
    monkeypatch.setattr(writer.Desk, "write", lambda self, task, scratch: again.append(task))
    build([shop], tmp_path / "out", school)
    assert not again
    assert qa_of(tmp_path / "out")


def test_nothing_that_is_secret_or_personal_is_sent(make_repository, school, tmp_path, shop):
    builder = make_repository("leaky")
    builder.git("pull", "-q", str(shop), "main")
    builder.now += 30 * 86_400
    text = (builder.path / "shop/apple.py").read_text()
    leaky = f'# Ada Byron, ada@corp.io\nTOKEN = "{SECRET}"\n{text}'
    builder.commit({"shop/quince.py": leaky.replace("apple", "quince")}, "Add the quince module to the shop")
    build([builder.path], tmp_path / "out", school, qa={"max_seeds_per_source": 500})
    sent = "\n".join(school.seen)
    assert "quince" in sent
    assert not [text for text in ("Byron", "ada@corp", SECRET) if text in sent]


def test_a_file_that_gives_no_rows_is_not_asked_about(make_repository, school, tmp_path, shop):
    builder = make_repository("twins")
    builder.git("pull", "-q", str(shop), "main")
    builder.now += 30 * 86_400
    text = (builder.path / "shop/apple.py").read_text()
    builder.commit({"shop/pear.py": text, "shop/plum.py": text + "LAST = 1\n"}, "Copy the apple module twice")
    build([builder.path], tmp_path / "out", school, qa={"max_seeds_per_source": 500})
    shown = {path for prompt in school.seen for path, _ in SOURCE.findall(prompt)}
    rows = [row for row in rows_of(tmp_path / "out") if row.task is Task.PRETRAIN]
    assert shown == {place.path for row in rows for place in row.provenance}
    # of the three that are alike one is kept
    assert len(shown & {"shop/apple.py", "shop/pear.py", "shop/plum.py"}) == 1


def test_a_teacher_that_is_away_costs_the_questions_alone(shop, tmp_path):
    gone = School()
    gone.close()
    manifest = build([shop], tmp_path / "out", gone)
    assert rows_of(tmp_path / "out") and not qa_of(tmp_path / "out")
    (source,) = manifest.sources
    assert source.state == "partial"
    assert re.search(r"left 40 questions without an answer: No teacher answers at http", source.note)
    assert [(row.reason, row.count) for row in manifest.dropped if row.stage == "qa"] == [
        ("the teacher could not be asked", 40)
    ]


class Stopped(BaseException):
    """As good as a kill: nothing of the pipeline catches it."""


def test_a_build_that_was_stopped_asks_no_question_twice(shop, school, tmp_path, monkeypatch):
    build([shop], tmp_path / "whole", school)
    asked = len(school.seen)
    put = FileAnswers.put

    def stop_at_ten(self, name, answer):
        put(self, name, answer)
        if sum(1 for _ in self._folder.glob("*/*.json")) == 10:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(FileAnswers, "put", stop_at_ten)
        with pytest.raises(Stopped):
            build([shop], tmp_path / "out", school)
    build([shop], tmp_path / "out", school)
    assert len(school.seen) == 2 * asked
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one(make_repository, shop, school, tmp_path):
    # in a process of its own: pools speak over sockets, which tests may not open
    code = (
        "import json, sys; from pathlib import Path; from data_pipelines.config import PipelineConfig;"
        "from data_pipelines.pipeline import build_dataset; from finetune.terminal.progress import Progress;"
        "config = PipelineConfig.model_validate(json.loads(sys.argv[1])); out = Path(sys.argv[2]);"
        "build_dataset(config, out, data_folder=Path(f'{out}.data'), progress=Progress('x', None))"
    )
    other = make_repository("other")
    other.commit({f"{name}.py": module_text(name) for name in ("kettle", "lantern", "magnet")}, "Add three modules")
    for workers in (1, 2):
        config = pipeline([shop, other.path], tmp_path / f"by-{workers}", school, workers=workers)
        arguments = [sys.executable, "-c", code, config.model_dump_json(exclude_unset=True), tmp_path / f"by-{workers}"]
        subprocess.run(arguments, check=True, capture_output=True)
    assert bytes_of(tmp_path / "by-1") == bytes_of(tmp_path / "by-2")
    assert {row.provenance[0].repo for row in qa_of(tmp_path / "by-2")} == {"shop", "other"}


def test_what_failed_is_asked_again_and_the_rest_is_not(shop, school, tmp_path):
    whole = build([shop], tmp_path / "whole", school)
    asked = len(school.seen)
    school.seen.clear()
    school.status = 503
    broken = build([shop], tmp_path / "out", school)
    assert broken.sources[0].state == "partial" and "8 times in a row" in broken.sources[0].note
    school.status, tried = 200, len(school.seen)
    again = build([shop], tmp_path / "out", school)
    assert (again.content_digest, again.sources[0].state) == (whole.content_digest, "whole")
    assert len(school.seen) - tried == asked


def test_a_teacher_outside_is_refused_before_anything_is_read(shop, tmp_path):
    class Foreign:
        url = "http://8.8.4.4:9/v1"

    with pytest.raises(InputError, match="neither loopback nor private"):
        build([shop], tmp_path / "out", Foreign)
    assert not (tmp_path / "out").exists()


def test_to_forget_deletes_what_the_teacher_said(shop, school, tmp_path):
    home, out = Home(tmp_path / "home"), tmp_path / "out"
    build_from(pipeline([shop], out, school), out, data=home.data)
    assert list(home.data.rglob("answers/*/*.json"))
    removal = plan_removal(out, subject_of(out, path="shop:shop/apple.py"), home=home, key=KEY)
    forget(removal, home=home, key=KEY)
    assert not list(home.data.rglob("answers/*/*.json"))
    assert not [row for row in qa_of(out) if "apple" in row.model_dump_json()]
