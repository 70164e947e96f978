"""Every failure is an OpenAI error document that tells nothing of the server; limits act before the model does."""

import logging

import pytest

QUESTION = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}
ROUTE = "/v1/chat/completions"


def test_a_bug_is_logged_and_not_told(client, engine, caplog):
    engine.broken = True
    with caplog.at_level(logging.ERROR, logger="serving"):
        response = client.post(ROUTE, json=QUESTION)
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text and "secret" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"model": NaN}',
        b"[" * 2000,
        b'{"model": "base", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "base", "temperature": NaN, "messages": [{"role": "user", "content": "a"}]}',
        b"\xff\xfe",
    ],
)
def test_a_broken_body_is_the_client_s_fault(client, engine, content):
    response = client.post(ROUTE, content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert engine.requests == []


def test_another_content_type_is_refused(client, engine):
    """A page elsewhere may post text/plain without asking the browser; JSON it may not."""
    response = client.post(ROUTE, content=b'{"model": "base"}', headers={"content-type": "text/plain"})
    assert response.status_code == 400 and engine.requests == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_refused(client, engine, chunked):
    pieces = iter([b'{"model": "', b"x" * 5000, b'"}']) if chunked else b"x" * 5000
    response = client.post(ROUTE, content=pieces, headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert "4096" in response.json()["error"]["message"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "", "[::2]:80"])
def test_a_foreign_host_name_is_refused(client, host):
    response = client.get("/v1/models", headers={"host": host})
    assert response.status_code == 403 and response.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_names_of_this_machine_are_served(client, host):
    assert client.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/v1/nothing"])
def test_there_are_no_interactive_pages(client, path):
    response = client.get(path)
    assert response.status_code == 404 and "error" in response.json()


def test_the_wrong_method_says_so(client):
    response = client.get(ROUTE)
    assert response.status_code == 405 and "GET" in response.json()["error"]["message"]


def test_health(client, engine):
    assert client.get("/livez").status_code == 200 and client.get("/readyz").status_code == 200
    engine.ready = False
    assert client.get("/livez").status_code == 200 and client.get("/readyz").status_code == 503


def test_a_field_name_that_is_no_text_is_quoted_without_harm(client):
    body = b'{"model": "base", "messages": [{"role": "user", "content": "a"}], "\\ud800": 1}'
    response = client.post(ROUTE, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
