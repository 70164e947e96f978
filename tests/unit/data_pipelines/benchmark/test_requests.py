import pytest

from data_pipelines.benchmark.requests import Requests
from data_pipelines.document import Commit


@pytest.fixture(scope="module")
def requests():
    return Requests([Commit("1" * 40, 0, "ada@corp.example", "Ada Lovelace", "x", ())])


def test_numbers_trailers_and_addresses_are_no_part_of_a_request(requests):
    message = (
        "Clamp values that are too low (#12)\n\nSee gh-7 was wrong; as #13 says, zero is a value.\n\n"
        "Signed-off-by: Ada Lovelace <ada@corp.example>\n"
    )
    assert requests.request(message) == "Clamp values that are too low"
    body = "Fix clamping of low values\n\nAs said in #13, zero is a value [gh-2]. Mail ops@corp.net first."
    assert requests.request(body) == "Fix clamping of low values\n\nAs said, zero is a value. Mail first."
    body = "Keep help strings\n\nFix what came with 8.4 by #1, properly fix #2 and gh-3, see PR#9.\nCloses https://git.corp.net/a/issues/4"
    assert requests.request(body) == "Keep help strings\n\nFix what came with 8.4, properly."


def test_secrets_and_names_of_authors_are_taken_out_and_the_text_is_the_same_each_time(requests):
    message = "Rotate the key of the shop\n\nAda Lovelace had put AKIAQYLPMN5HFIQR7XYA into the settings."
    found = requests.request(message)
    assert found is not None and "AKIA" not in found and "Ada Lovelace" not in found
    assert found.startswith("Rotate the key of the shop\n\nREDACTED_NAME had put REDACTED_")
    assert found == Requests([Commit("2" * 40, 0, "ada@corp.example", "Ada Lovelace", "x", ())]).request(message)


@pytest.mark.parametrize("message", ["fix", "#12", "Merge branch 'main' into topic", "Bump version to 2.0", "(#7)"])
def test_a_message_that_says_too_little_is_no_request(requests, message):
    assert requests.request(message) is None
