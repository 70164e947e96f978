"""Recall on planted secrets, and files that still parse; the whole table comes from bench/secret_recall.py."""

import ast
import json
import tomllib
from collections import defaultdict

import pytest
import yaml

from data_pipelines.config import RedactSection
from data_pipelines.redact.form import form_of
from data_pipelines.redact.redactor import Redactor

PARSERS = {"py": ast.parse, "json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}


@pytest.fixture(scope="module")
def redacted(planted):
    """(planted, text without its secrets) of a fixed draw that no rule was tuned on."""
    redactor = Redactor(RedactSection(), b"k" * 32)
    items = [*planted.tokens(77, draws=1), *planted.passwords(77, draws=4)]
    return [(item, redactor.redact(item.text, form_of(item.path)).text) for item in items]


def missed(redacted, **wanted):
    chosen = [(item, text) for item, text in redacted if all(getattr(item, key) == wanted[key] for key in wanted)]
    return [item for item, text in chosen if any(piece in text for piece in item.pieces)], len(chosen)


def test_the_planted_set_is_wide_enough(redacted):
    items = [item for item, _ in redacted]
    assert len(items) >= 800
    assert len({item.kind for item in items if not item.is_password}) >= 30
    assert {item.file_type for item in items} == {"py", "js", "yaml", "json", "toml", "env", "sh", "sql"}
    assert all(piece in item.text for item in items for piece in item.pieces)


def test_97_of_100_tokens_go(redacted):
    left, total = missed(redacted, is_password=False)
    assert 1 - len(left) / total >= 0.97, left


def test_85_of_100_passwords_that_a_person_chose_go(redacted):
    left, total = missed(redacted, is_password=True)
    assert 1 - len(left) / total >= 0.85, left


def test_of_what_is_claimed_nothing_stays(redacted):
    assert missed(redacted, claimed=True)[0] == []


def test_files_that_parsed_still_parse(redacted):
    for item, text in redacted:
        parse = PARSERS.get(item.file_type)
        if parse is not None:
            parse(item.text)
            parse(text)
        assert text.count("\n") == item.text.count("\n"), item


def test_what_was_redacted_holds_nothing_more(redacted):
    """Else the last scan, over rows, would leave out what the first one made."""
    redactor = Redactor(RedactSection(), b"k" * 32)
    assert [item.text for item, text in redacted if redactor.rules_that_hit(text, form_of(item.path))] == []


def test_a_secret_has_one_placeholder_in_every_file_type(planted):
    redactor = Redactor(RedactSection(), b"k" * 32)
    value = "Winter" + "2024!"
    found = defaultdict(set)
    for file_type, context in {
        "py": 'db_password = "{}"',
        "js": "const dbPassword = '{}';",
        "yaml": "db:\n  password: {}",
        "json": '{{"password": "{}"}}',
        "env": "DB_PASSWORD={}",
        "sql": "CREATE USER ada IDENTIFIED BY '{}';",
    }.items():
        text = redactor.redact(context.format(value), form_of(planted.FILE_TYPES[file_type])).text
        found[text[text.index("REDACTED_") :][: len("REDACTED_PASSWORD_12345678")]].add(file_type)
    assert len(found) == 1, found
