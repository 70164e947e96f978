"""The client against real servers on loopback, each a few lines of http.server."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_pipelines.questions import teacher as module
from data_pipelines.questions.answers import FileAnswers
from data_pipelines.questions.teacher import Message, Teacher, TeacherFailed, is_own
from data_pipelines.task_config import TeacherSection
from finetune.contracts.errors import InputError, MachineError

TALK = [Message("system", "Be brief."), Message("user", "What is a cart? ü")]


def completion(text):
    return json.dumps({"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})


@contextmanager
def serving(*replies):
    """Give the replies in turn, the last for ever: (status, body, headers) or a function of the handler."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, dict(self.headers), body))
            reply = replies[min(len(seen), len(replies)) - 1]
            if callable(reply):
                reply(self)
                return
            status, text, headers = reply
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text.encode())), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A teacher of a URL with its answers under tmp_path; waits are short."""
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.02)

    def teacher(url, environment=None, resolver=module.resolve, **section):
        chosen = TeacherSection.model_validate({"url": url, "model": "local", **section})
        return Teacher(chosen, FileAnswers(tmp_path / "answers"), environment=environment or {}, resolver=resolver)

    return teacher


def test_a_question_is_posted_once_and_its_answer_kept(make):
    with serving((200, completion("A cart."), {})) as (url, seen):
        assert make(url).ask(TALK) == "A cart."
        assert make(url).ask(TALK) == "A cart."
        assert len(seen) == 1
        path, headers, body = seen[0]
        assert path == "/v1/chat/completions" and "Authorization" not in headers
        assert body["messages"][1] == {"role": "user", "content": "What is a cart? ü"}
        assert (body["model"], body["temperature"], body["seed"], body["stream"]) == ("local", 0.0, 0, False)
        # whatever decides an answer is part of its key
        for change in ({"model": "other"}, {"seed": 1}, {"max_tokens": 99}, {"temperature": 0.5}):
            make(url, **change).ask(TALK)
        make(url).ask(TALK[1:])
        assert len(seen) == 6
    # the server is gone, the answers are not
    assert make(url).ask(TALK) == "A cart."


def test_a_damaged_answer_is_asked_for_again(make, tmp_path):
    with serving((200, completion("A cart."), {})) as (url, seen):
        make(url).ask(TALK)
        (file,) = (tmp_path / "answers").rglob("*.json")
        for content in ('{"answer": 5}', "[]", '{"answer"', ""):
            file.write_text(content)
            assert make(url).ask(TALK) == "A cart."
        assert len(seen) == 5


def test_the_key_comes_from_the_environment_and_is_in_no_answer(make, tmp_path):
    with serving((200, completion("Yes."), {})) as (url, seen):
        make(url, environment={"TEACHER_KEY": "tk-123"}, key_variable="TEACHER_KEY").ask(TALK)
        assert seen[0][1]["Authorization"] == "Bearer tk-123"
    assert all("tk-123" not in file.read_text() for file in (tmp_path / "answers").rglob("*.json"))
    for value in ("", "two\nlines", "ключ"):
        with pytest.raises(InputError, match="TEACHER_KEY holds no key") as caught:
            make(url, environment={"TEACHER_KEY": value}, key_variable="TEACHER_KEY")
        assert "two" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((500, "{}", {}), "the teacher answered with status 500"),
        ((503, "{}", {"Retry-After": "999999"}), "the teacher answered with status 503"),
        ((429, "{}", {"Retry-After": "soon"}), "the teacher answered with status 429"),
        ((400, "{}", {}), "the teacher answered with status 400"),
        ((302, "", {"Location": "http://192.0.2.1/"}), "the teacher answered with status 302"),
        ((200, "not JSON", {}), "what the teacher sent is no chat completion"),
        ((200, '{"choices": []}', {}), "what the teacher sent is no chat completion"),
        ((200, '{"choices": [{"message": {"content": null}}]}', {}), "what the teacher sent is no chat completion"),
        (
            (200, '{"choices": [{"message": {"content": "\\ud800"}}]}', {}),
            "what the teacher sent is no chat completion",
        ),
        (lambda handler: handler.connection.close(), "the connection to the teacher broke"),
        (lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "broke"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "broke"),
    ],
)
def test_what_fails_costs_one_question_and_is_not_kept(reply, reason, make, tmp_path):
    with serving(reply) as (url, _), pytest.raises(TeacherFailed, match=reason):
        make(url).ask(TALK)
    assert not list((tmp_path / "answers").rglob("*.json"))


def test_what_may_pass_is_tried_again(make):
    with serving((503, "", {}), (500, "", {}), (200, completion("At last."), {})) as (url, seen):
        assert make(url).ask(TALK) == "At last."
        assert len(seen) == 3


def test_an_answer_that_takes_too_long_is_given_up(make):
    release = threading.Event()

    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while not release.wait(0.05):
            handler.wfile.write(b" ")

    for reply in (lambda handler: release.wait(5), drip):
        with serving(reply) as (url, seen):
            started = time.monotonic()
            with pytest.raises(TeacherFailed, match="too long"):
                make(url, timeout_seconds=0.3).ask(TALK)
            assert time.monotonic() - started < 4
            assert len(seen) == 1
            release.set()
        release.clear()


def test_an_answer_without_end_is_given_up(make, monkeypatch):
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1000)
    with serving((200, completion("x" * 5000), {})) as (url, _), pytest.raises(TeacherFailed, match="larger than"):
        make(url).ask(TALK)


def test_a_teacher_that_fails_over_and_over_ends_the_build(make, monkeypatch):
    monkeypatch.setattr(module, "MAX_FAILURES_IN_A_ROW", 3)
    with serving((400, "", {}), (400, "", {}), (200, completion("Yes."), {}), (400, "", {})) as (url, _):
        teacher = make(url)
        for talk, expected in ((TALK, None), (TALK, None), (TALK, "Yes."), (TALK[1:], None), (TALK[1:], None)):
            if expected:
                assert teacher.ask(talk) == expected
            else:
                with pytest.raises(TeacherFailed):
                    teacher.ask(talk)
        with pytest.raises(MachineError, match="3 times in a row"):
            teacher.ask(TALK[1:])


@pytest.mark.parametrize(
    ("status", "words"), [(401, "refuses the key"), (403, "refuses the key"), (404, "no model local")]
)
def test_wrong_settings_end_the_build_with_a_hint(status, words, make):
    with serving((status, "{}", {})) as (url, _), pytest.raises(InputError, match=words):
        make(url).ask(TALK)


def test_no_teacher_at_the_address_ends_the_build(make):
    with serving((200, "", {})) as (url, _):
        pass
    with pytest.raises(MachineError, match="No teacher answers at"):
        make(url).ask(TALK)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_no_proxy_is_used(variable, make, monkeypatch):
    monkeypatch.setenv(variable, "http://192.0.2.1:1")
    with serving((200, completion("Direct."), {})) as (url, _):
        assert make(url).ask(TALK) == "Direct."


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("10.1.2.3", True),
        ("172.16.0.9", True),
        ("192.168.1.1", True),
        ("fd00::1", True),
        ("::ffff:10.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("8.8.8.8", False),
        ("172.32.0.1", False),
        ("169.254.169.254", False),
        ("fe80::1", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("2001:4860:4860::8888", False),
        ("224.0.0.1", False),
    ],
)
def test_what_is_an_address_of_ones_own(address, own):
    assert is_own(address) is own


def test_a_foreign_host_must_be_written_out(make):
    def resolver(host, port):
        return frozenset(("10.0.0.7", "203.0.114.9"))

    url = "https://models.corp.io/v1"
    with pytest.raises(InputError, match=r"203\.0\.114\.9, which is neither loopback nor private") as caught:
        make(url, resolver=resolver)
    assert "allow_host: models.corp.io" in caught.value.hint
    with pytest.raises(InputError, match="neither"):
        make(url, resolver=resolver, allow_host="corp.io")
    make(url, resolver=resolver, allow_host="Models.corp.io")
    make("http://gpu01:8000/v1", resolver=lambda host, port: frozenset(("10.0.0.7",)))


def test_an_unknown_host_is_an_error(make):
    def resolver(host, port):
        raise OSError("no such name")

    with pytest.raises(MachineError, match=r"host gpu99 is unknown"):
        make("http://gpu99:8000/v1", resolver=resolver)
    with pytest.raises(InputError, match="is no address"):
        make("http://127.0.0.1:99999/v1")
