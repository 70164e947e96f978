"""The page's files: all of them, nothing else, and under a policy that lets the browser load nothing from elsewhere."""

import re
from importlib.resources import files

import pytest

from serving.api.playground import FILES, PUBLIC_PATHS


@pytest.mark.parametrize("path", sorted(PUBLIC_PATHS))
def test_each_file_comes_under_the_policy(client, path):
    answer = client.get(path)
    assert answer.status_code == 200 and answer.headers["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy) and policy["frame-ancestors"] == "'none'"


@pytest.mark.parametrize(
    "path", ["/playground/index.html", "/playground/__init__.py", "/playground/..%2fapp.py", "/playground/x"]
)
def test_nothing_else_can_be_asked_for(client, path):
    assert client.get(path).status_code == 404


def test_every_file_that_is_there_is_sent_and_names_no_other_host():
    there = {one.name: one.read_text() for one in files("serving.playground").iterdir() if one.is_file()}
    assert set(there) == {*FILES, "index.html", "__init__.py"}
    addresses = {address for text in there.values() for address in re.findall(r"https?://[^'\" ]+", text)}
    assert addresses <= {"http://www.w3.org/2000/svg"}
    page = there["index.html"]
    assert "<style" not in page and not re.search(r"\son\w+=|style=", page)
    assert re.findall(r"<script[^>]*>", page) == ['<script type="module" src="playground/main.mjs">']
