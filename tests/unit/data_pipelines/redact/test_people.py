import re
from dataclasses import dataclass
from random import Random

import pytest

from data_pipelines.config import RedactSection
from data_pipelines.redact import people as people_module
from data_pipelines.redact.people import People
from data_pipelines.redact.redactor import Redactor


@dataclass(frozen=True)
class Signed:
    name: str
    email: str
    message: str = ""


def redactor(*commits, **section):
    people = People()
    for commit in commits:
        people.add(commit)
    return Redactor(RedactSection.model_validate(section), b"k" * 32, people=people)


ADA = Signed("Ada Byron", "ada@corp.internal")


@pytest.mark.parametrize(
    "text",
    [
        "# by Ada Byron, 2024",
        "# by ADA  BYRON",
        'author = "ada byron"',
        "(Ada Byron)",
        "# mail ada@corp.internal",
        "# <Ada@Corp.Internal>",
    ],
)
def test_an_author_of_the_history_goes_from_a_text(text):
    done = redactor(ADA).redact(text)
    assert not any(word in done.text.lower() for word in ("ada", "byron", "corp.internal"))
    assert redactor(ADA).redact(done.text).text == done.text
    assert redactor().redact(text).text == text, "without the history nobody knows the name"


@pytest.mark.parametrize(
    "text",
    [
        "ada = 1",
        "# Byron was a poet",
        "# Grenada Byron",
        "# Ada Byronson",
        "# ÉAda Byron",
        "x_ada@corp.internal",
        "Ada_Byron",
    ],
)
def test_words_alone_and_parts_of_words_stay(text):
    assert redactor(ADA).redact(text).text == text


@pytest.mark.parametrize(
    "name",
    [
        "ada",
        "Build Bot",
        "dependabot[bot]",
        "GitHub Actions",
        "Test User",
        "Release Team",
        "a b",
        "X 1234",
        "Philipp A.",
        "root",
    ],
)
def test_what_is_no_full_name_of_a_person_is_not_sought(name):
    assert redactor(Signed(name, "x")).redact(f"# {name} here").text == f"# {name} here"


def test_addresses_of_services_are_not_sought():
    emails = (
        "noreply@corp.internal",
        "git@corp.internal",
        "ada@example.com",
        "1+ada@users.noreply.github.com",
        "ada",
        "",
    )
    for email in emails:
        assert redactor(Signed("x", email)).redact(f'"{email}"').hits == {}


def test_names_of_any_script_and_shape_are_found():
    for name in ("Jürgen Groß", "José O'Brien", "Jean-Luc Picard", "Мария Кюри", "Grace B. Hopper"):
        assert redactor(Signed(name, "x")).redact(f"# {name}: done").text.startswith("# REDACTED_NAME_")


def test_trailers_name_persons_too():
    message = "Weigh apples\n\nReviewed-by: Grace Hopper <grace@navy.internal>\nFixes: #7\n"
    done = redactor(Signed("x", "x", message)).redact("# Grace Hopper, grace@navy.internal")
    assert done.hits == {"author-name": 1, "author-email": 1}


def test_one_person_has_one_placeholder_in_any_capitals():
    texts = [redactor(ADA).redact(text).text for text in ("Ada Byron", "ADA BYRON")]
    assert texts[0] == texts[1]
    first, second = redactor().redact("ada@corp.io ADA@corp.io").text.split()
    assert first == second


def test_what_is_switched_off_stays():
    text = "# Ada Byron, ada@corp.internal"
    assert "Ada Byron" in redactor(ADA, names=False).redact(text).text
    assert "ada@corp.internal" in redactor(ADA, emails=False).redact(text).text


def test_more_authors_than_one_automaton_takes(monkeypatch):
    monkeypatch.setattr(people_module, "NAMES_PER_PATTERN", 3)
    names = [f"Ada{chr(97 + number)} Byron" for number in range(10)]
    done = redactor(*(Signed(name, "x") for name in names)).redact("\n".join(f"# {name}" for name in names))
    assert done.hits == {"author-name": 10}
    assert "Byron" not in done.text


def test_where_every_part_of_the_dictionary_finds_by_itself(monkeypatch):
    """What narrows the search down, words and letters around "@", loses nothing of what the patterns find."""
    monkeypatch.setattr(people_module, "NAMES_PER_PATTERN", 2)
    people = People()
    for number, name in enumerate(("Ada Lee", "Lee Marie", "Ada Lee Marie", "Marie Kin", "Éa Lee", "Ada\tL. King")):
        people.add_person(name, ("da@ks.io", "ada@ks.io", "ks.da@ks.io.eu", "é@ks.io", "xſ@kſ.io", "a.b@ks.io")[number])
    words = "Ada LEE Marie  \u212ain da@ks.io Ada@KS.io. ks.da@\u212a\u017f.io.eu x@ks.io@ks.io é@ks.io éé@ks.io"
    words = [*words.split(" "), "xs@ks.io\tÉA", "Lee"]
    random, patterns = Random(3), {"author-email": people._email_patterns, "author-name": people._name_patterns}
    num_found = 0
    for _ in range(500):
        content = " ".join(random.choices(words, k=12)).encode()
        found = [
            (*match.span(), rule)
            for rule, parts in patterns.items()
            for pattern in parts
            for match in pattern.finditer(content)
            if not re.match(r"\w", content[match.end() :].decode())
            and not re.search(r"\w\Z", content[: match.start()].decode())
        ]
        assert list(people.find(content, names=True, emails=True)) == found
        num_found += len(found)
    assert num_found > 500


def test_a_longer_name_wins_over_a_shorter_one():
    done = redactor(ADA, Signed("Ada Byron King", "x")).redact("# Ada Byron King")
    assert "King" not in done.text
