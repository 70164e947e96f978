"""Client of a local teacher behind an OpenAI-compatible endpoint; what it answered once is not asked again."""

import http.client
import ipaddress
import json
import os
import socket
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from data_pipelines.questions.answers import AnswerStore
from data_pipelines.task_config import TeacherSection
from finetune.contracts.errors import InputError, MachineError
from finetune.contracts.io import digest_json
from finetune.guard.endpoint import Endpoint
from finetune.guard.offline import permit

VERSION = "teacher/1"
MAX_ANSWER_BYTES = 4 << 20
READ_BYTES = 1 << 16
NUM_TRIES = 3
WAIT_SECONDS = 1.0
MAX_WAIT_SECONDS = 30.0
# a teacher that fails this often without an answer in between is down, and asking on would waste the night
MAX_FAILURES_IN_A_ROW = 8
HINT = "Start the teacher, or correct tasks.qa.teacher, then run the same command again: answers so far are kept."
Resolve = Callable[[str, int], frozenset[str]]


class TeacherFailed(Exception):
    """One question got no answer; the text is the reason to note. The next one may be asked."""


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of the talk. Its text must be redacted already."""

    role: Literal["system", "user", "assistant"]
    text: str


class _ReplyMessage(BaseModel):
    model_config = ConfigDict(extra="ignore")
    content: str


class _Choice(BaseModel):
    model_config = ConfigDict(extra="ignore")
    message: _ReplyMessage


class _Reply(BaseModel):
    """What is read of an answer to POST /chat/completions."""

    model_config = ConfigDict(extra="ignore")
    choices: tuple[_Choice, ...]


class _Again(Exception):
    """The question may be asked once more, after so many seconds; None leaves it to this client."""

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


def resolve(host: str, port: int) -> frozenset[str]:
    """The addresses of a host. Raises OSError."""
    permit(host, port)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return frozenset(str(address[0]).split("%")[0] for *_, address in found)


def is_own(address: str) -> bool:
    """Whether an address is loopback or private; link-local ones, where clouds keep credentials, are not."""
    one = ipaddress.ip_address(address)
    one = getattr(one, "ipv4_mapped", None) or one
    if one.is_loopback:
        return True
    return one.is_private and not (one.is_link_local or one.is_unspecified or one.is_reserved or one.is_multicast)


def question_of(section: TeacherSection, messages: Sequence[Message]) -> tuple[str, dict[str, JsonValue]]:
    """The key under which the answer to a talk is kept, and what is asked but for the manner of sending it."""
    talk: list[JsonValue] = [{"role": one.role, "content": one.text} for one in messages]
    settings: dict[str, JsonValue] = {
        "model": section.model,
        "max_tokens": section.max_tokens,
        "temperature": section.temperature,
        "seed": section.seed,
    }
    return digest_json([VERSION, settings, talk]), {**settings, "messages": talk}


class Teacher:
    """Asks the endpoint of a TeacherSection, directly: no proxy, no redirect; one connection per question.

    Raises InputError when made for an address that is neither loopback nor private and not allowed, or without the key
    that the section names, and MachineError when the host is unknown.
    """

    def __init__(
        self,
        section: TeacherSection,
        answers: AnswerStore,
        *,
        environment: Mapping[str, str] = os.environ,
        resolver: Resolve = resolve,
    ) -> None:
        self._section = section
        self._answers = answers
        self._url = urllib.parse.urlsplit(section.url.rstrip("/"))
        self._host, self._port = _host_and_port(self._url, section.url)
        self._headers = {"Content-Type": "application/json", "Connection": "close", **_key(section, environment)}
        self._failures_in_a_row = 0
        for address in _checked(section, self._host, self._port, resolver):
            permit(address, self._port)

    def ask(self, messages: Sequence[Message]) -> str:
        """The answer to a talk, from the store when it is there.

        Raises TeacherFailed, which costs this question alone; InputError when the endpoint refuses the key or the
        model; MachineError when it cannot be reached, or has failed too often in a row.
        """
        key, question = question_of(self._section, messages)
        known = self._answers.get(key)
        if known is not None:
            return known
        answer = self._counted({**question, "stream": False})
        self._answers.put(key, answer)
        return answer

    def _counted(self, question: dict[str, JsonValue]) -> str:
        try:
            answer = self._tried(json.dumps(question).encode("utf-8"))
        except TeacherFailed as failed:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise MachineError(
                    f"The teacher at {self._section.url} failed {MAX_FAILURES_IN_A_ROW} times in a row: {failed}.", HINT
                ) from failed
            raise
        self._failures_in_a_row = 0
        return answer

    def _tried(self, body: bytes) -> str:
        for remaining in reversed(range(NUM_TRIES)):
            try:
                return self._once(body)
            except _Again as again:
                if not remaining:
                    raise TeacherFailed(str(again)) from again
                time.sleep(WAIT_SECONDS if again.wait_seconds is None else again.wait_seconds)
        raise AssertionError("the last try returns or raises")

    def _once(self, body: bytes) -> str:
        try:
            status, content, wait_seconds = self._exchange(body)
        except ConnectionRefusedError as cause:
            raise MachineError(f"No teacher answers at {self._section.url}.", HINT) from cause
        except TimeoutError as cause:
            # a second try would take as long again
            raise TeacherFailed("the teacher took too long") from cause
        except (OSError, http.client.HTTPException) as cause:
            raise _Again("the connection to the teacher broke") from cause
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            raise _Again(f"the teacher answered with status {status}", wait_seconds)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Again(f"the teacher answered with status {status}")
        self._check(status)
        return _text_of(content)

    def _check(self, status: int) -> None:
        url, model = self._section.url, self._section.model
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise InputError(
                f"The teacher at {url} refuses the key.",
                "Put the right key into the environment variable that tasks.qa.teacher.key_variable names.",
            )
        if status == HTTPStatus.NOT_FOUND:
            raise InputError(
                f"The teacher at {url} knows no model {model}, or no /chat/completions.",
                "tasks.qa.teacher.url ends in /v1 with most servers; GET /v1/models there lists the names.",
            )
        if status != HTTPStatus.OK:
            raise TeacherFailed(f"the teacher answered with status {status}")

    def _exchange(self, body: bytes) -> tuple[int, bytes, float]:
        """Status, content, and how long the server wants a client to wait."""
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        deadline = time.monotonic() + self._section.timeout_seconds
        connection = kind(self._host, self._port, timeout=self._section.timeout_seconds)
        try:
            connection.connect()
            wire = connection.sock
            connection.request("POST", f"{self._url.path}/chat/completions", body, self._headers)
            with connection.getresponse() as response:
                content = bytearray()
                while len(content) <= MAX_ANSWER_BYTES:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    wire.settimeout(left)
                    block = response.read1(READ_BYTES)
                    if not block:
                        if response.length:
                            raise http.client.IncompleteRead(bytes(content), response.length)
                        return response.status, bytes(content), _wait(response.headers.get("Retry-After"))
                    content += block
        finally:
            connection.close()
        raise TeacherFailed(f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB")


def endpoint_of(section: TeacherSection, resolver: Resolve = resolve) -> Endpoint:
    """Where a teacher is. Raises InputError for one that may not be spoken to, MachineError when it is unknown here."""
    host, port = _host_and_port(urllib.parse.urlsplit(section.url), section.url)
    return Endpoint(host, port, tuple(sorted(_checked(section, host, port, resolver))))


def _host_and_port(url: urllib.parse.SplitResult, text: str) -> tuple[str, int]:
    try:
        port = url.port
    except ValueError:
        port = 0
    if not url.hostname or port == 0:
        raise InputError(f"tasks.qa.teacher.url {text} is no address.", "Give it as http://127.0.0.1:8000/v1.")
    return url.hostname, port or (443 if url.scheme == "https" else 80)


def _checked(section: TeacherSection, host: str, port: int, resolver: Resolve) -> frozenset[str]:
    try:
        addresses = resolver(host, port)
    except OSError as cause:
        raise MachineError(f"The teacher's host {host} is unknown here.", HINT) from cause
    foreign = sorted(address for address in addresses if not is_own(address))
    if foreign and (section.allow_host or "").lower() != host.lower():
        raise InputError(
            f"The teacher's host {host} has the address {foreign[0]}, which is neither loopback nor private.",
            f"Excerpts of your code would go there. If that is meant, write tasks.qa.teacher.allow_host: {host}.",
        )
    return addresses


def _key(section: TeacherSection, environment: Mapping[str, str]) -> dict[str, str]:
    if section.key_variable is None:
        return {}
    key = environment.get(section.key_variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(
            f"The environment variable {section.key_variable} holds no key for the teacher.",
            f"Set it for this command: export {section.key_variable}=..., or take out tasks.qa.teacher.key_variable.",
        )
    return {"Authorization": f"Bearer {key}"}


def _wait(retry_after: str | None) -> float:
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else WAIT_SECONDS
    return min(seconds, MAX_WAIT_SECONDS)


def _text_of(content: bytes) -> str:
    try:
        choices = _Reply.model_validate_json(content).choices
    except ValidationError:
        choices = ()
    if not choices:
        raise TeacherFailed("what the teacher sent is no chat completion")
    return choices[0].message.content
