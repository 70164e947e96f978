"""Recall on planted secrets, and files that still parse; the whole table comes from bench/secret_recall.py."""

import ast
import json
import tomllib
from collections import defaultdict

import pytest
import re2
import yaml

from data_pipelines.config import RedactSection
from data_pipelines.redact.form import form_of
from data_pipelines.redact.pack import default_pack
from data_pipelines.redact.redactor import Redactor

# what the planted ones leave out of the rules that have a shape
MORE_SHAPES = [
    *(f"{start}{'0a1b2c3d' * 4}" for start in ("SK", "AC", "dapi", "glsa_", "glc_", "shpat_", "lin_api_", "sq0atp-")),
    f"patAbCdEfGhIjKl12.{'0a1b2c3d' * 8}",
    "curl --user=ada:Winter2024 db",
    "curl -u 'ada:Winter2024' db",
    "Authorization: Bearer abcdefghij0123456789",
    "# secret key is: abcdef0123456789",
    "-- TOKEN=abcdef0123456789",
    '{name: "API_KEY", value: "abcdef0123456789"}',
    'os.environ["API_TOKEN"] or "abcdef0123456789"',
    'auth = ["ada", "Winter2024"]',
    "userpwd='ada:Winter2024'",
]
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


def test_the_shape_of_a_rule_stands_in_whatever_it_matches(planted):
    """Else a text that has the keywords and no shape would keep its secret."""
    shaped = [rule for rule in default_pack().rules if rule.shape]
    texts = [
        item.text for seed in (5, 77) for item in (*planted.tokens(seed, draws=3), *planted.passwords(seed, draws=3))
    ]
    content = "\n".join([*texts, *MORE_SHAPES]).encode()
    for rule in shaped:
        matches = [match.group() for match in rule.pattern.finditer(content)]
        assert matches, rule.id
        shape = re2.compile(f"(?i){rule.shape}".encode())
        assert [match for match in matches if not shape.search(match)] == [], rule.id


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
