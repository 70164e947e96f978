"""Questions and answers with a teacher that is a real HTTP server, and answers as the test tells it to."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_pipelines.config import RedactSection
from data_pipelines.extract.python import PythonExtractor
from data_pipelines.mine.qa import NoAnswer, QaMiner
from data_pipelines.mine.qa_prompt import NOT_TOLD, Citation, read_draft
from data_pipelines.mine.qa_seeds import (
    SeedKind,
    choose,
    commit_seed,
    document_seeds,
    fragment_seeds,
    symbol_seeds,
)
from data_pipelines.questions.answers import FileAnswers
from data_pipelines.questions.teacher import Teacher
from data_pipelines.redact.redactor import Redactor
from data_pipelines.task_config import QaSection, TeacherSection
from finetune.contracts.dataset import Role, Task
from tests.unit.data_pipelines.mined import File, example_of

TEXT = '''"""Carts of the shop."""

TAX = 0.2


def total(items, limit):
    """Add up the prices of items and stop at the limit that the customer set."""
    result = 0
    for item in items:
        if result + item.price > limit:
            raise OverLimit(item)
        result += item.price * (1 + TAX)
    return result


def plain(x):
    return x
'''
DOCUMENT = File("shop/cart.py", "python")
QUESTION = "What does total do when an item would push the sum over the limit of the customer?"
ANSWER = (
    "It refuses the item: before adding, `total` compares the sum so far plus the price with `limit` and raises"
    " `OverLimit` instead of returning a partial sum (shop/cart.py:9-12)."
)
GOOD = {"question": QUESTION, "answer": ANSWER, "citations": ["shop/cart.py:6-13"]}
SECOND = "`total` compares sum so far plus price with limit and raises OverLimit before adding the item."
ELSEWHERE = {"Checkout"}


class Clean:
    """A redactor as the pipeline has one: text in, text out."""

    def __init__(self):
        self.redactor = Redactor(RedactSection(), b"k" * 16)

    def redact(self, text, form):
        return self.redactor.redact(text, form).text


def miner_of(teacher, section):
    return QaMiner(teacher, Clean(), knows=lambda name: name in ELSEWHERE, section=section)


@pytest.fixture
def mine(tmp_path):
    """mine(first answer, second answer, seed=...) gives the outcome and the requests that reached the teacher."""
    servers = []

    def run(first, second=SECOND, *, seed=None, **settings):
        seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                seen.append("\n".join(message["content"] for message in body["messages"]))
                is_first = "training material" in seen[-1]
                reply = (json.dumps(first) if isinstance(first, dict) else first) if is_first else second
                content = json.dumps({"choices": [{"message": {"role": "assistant", "content": reply}}]}).encode()
                self.send_response(reply if isinstance(reply, int) else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/v1"
        teacher = Teacher(TeacherSection(url=url, model="local"), FileAnswers(tmp_path / f"answers{len(servers)}"))
        outcome = miner_of(teacher, QaSection(**settings)).mine(seed or symbol())
        return outcome, seen

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def symbol(text=TEXT):
    units = PythonExtractor().units(text.encode())
    return next(symbol_seeds(DOCUMENT, text.encode(), units=units, max_lines=120))


def test_a_good_answer_becomes_a_row(mine, tmp_path):
    row, seen = mine(GOOD)
    assert (row.task, row.stratum, row.language, row.visibility) == (Task.QA, "symbol", "python", "team")
    assert [segment.role for segment in row.segments] == [
        Role.INSTRUCTION, Role.CONTEXT, Role.CONTEXT, Role.ANSWER,
    ]  # fmt: skip
    assert [segment.loss for segment in row.segments] == [False, False, False, True]
    assert row.segments[0].text == QUESTION
    assert row.segments[1].text.startswith("9|     for item in items:\n10|         if result")
    # a citation of the list that the text lacks is added to it
    assert row.segments[-1].text == f"{ANSWER} (shop/cart.py:6-13)"
    assert [(one.path, one.first_line, one.last_line) for one in row.provenance] == [
        ("shop/cart.py", 9, 12),
        ("shop/cart.py", 6, 13),
    ]
    assert example_of(row, tmp_path).redactions == 0
    # the first prompt shows the file, the second nothing but the cited lines
    assert len(seen) == 2
    assert "1| " in seen[0] and "17|     return x" in seen[0] and "TAX = 0.2" in seen[0]
    assert "TAX = 0.2" not in seen[1] and "plain" not in seen[1] and QUESTION in seen[1]


def change(**values):
    return {**GOOD, **values}


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("no JSON at all", "the answer is no JSON object with a question and an answer"),
        ('{"question": "What', "the answer is no JSON object with a question and an answer"),
        ({"question": QUESTION}, "the answer is no JSON object with a question and an answer"),
        ({"question": [QUESTION], "answer": ANSWER}, "the answer is no JSON object with a question and an answer"),
        (
            change(answer="I'm sorry, but I cannot help with proprietary code of this kind (shop/cart.py:6-9)."),
            "refused",
        ),
        (change(question="Why?"), "the question has not 15 to 400 characters"),
        (change(answer="It raises (shop/cart.py:9-12)."), "the answer has not 60 to 2400 characters"),
        (change(question="What does this function do when the limit is reached?"), "the question leans"),
        (change(question="What happens in lines 9 to 12 of the cart module?"), "the question leans"),
        (change(answer=ANSWER.replace(" (shop/cart.py:9-12)", ""), citations=[]), "the answer cites nothing"),
        (change(citations=["shop/cart.py:6-99"]), "a citation is not among the lines that were shown"),
        (change(citations=["shop/cart.py:12-9"]), "a citation is not among the lines that were shown"),
        (change(citations=["shop/cart.py:0-3"]), "a citation is not among the lines that were shown"),
        (change(citations=["shop/till.py:6-9"]), "a citation is not among the lines that were shown"),
        (change(answer=ANSWER.replace("`OverLimit`", "`LimitError`")), "a name in backticks is not in the repository"),
        (
            change(
                answer='"Add up the prices of items and stop at the limit that the customer set", and then'
                " shop/cart.py:6-13 returns the result."
            ),
            "the answer copies its sources",
        ),
        (change(answer=ANSWER + " Ask ada.byron@corp.io."), "the answer holds a secret or a person"),
        (400, "the teacher answered with status 400"),
    ],
)
def test_each_wrong_answer_has_its_reason(first, reason, mine):
    outcome, seen = mine(first)
    assert isinstance(outcome, NoAnswer)
    assert reason in outcome.reason
    assert len(seen) == 1


def test_more_lines_than_allowed_are_no_citation(mine):
    outcome, _ = mine(GOOD, max_cited_lines=11)
    assert outcome == NoAnswer("more than 11 lines are cited")


def test_a_name_from_elsewhere_in_the_repository_is_fine(mine):
    row, _ = mine(change(answer=ANSWER + " `Checkout` relies on it, see `shop/cart.py:6-7`."))
    assert not isinstance(row, NoAnswer)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (f"{NOT_TOLD}.", "the cited lines do not hold the answer"),
        ("I cannot tell.", "the cited lines do not hold the answer"),
        ("It rounds taxes down.", "a second answer from the cited lines alone differs"),
        ("", "a second answer from the cited lines alone differs"),
        (400, "the teacher answered with status 400"),
    ],
)
def test_what_the_cited_lines_do_not_bear_out_is_left_out(second, reason, mine):
    outcome, seen = mine(GOOD, second)
    assert outcome == NoAnswer(reason)
    assert len(seen) == 2


def test_nothing_is_sent_in_which_a_secret_is_found(mine):
    secret = TEXT.replace("TAX = 0.2", "TOKEN = 'ghp_" + "a1B2" * 9 + "'")
    outcome, seen = mine(GOOD, seed=symbol(secret))
    assert outcome == NoAnswer("the scan before sending found a secret or a person")
    assert seen == []
    message = "Stop at the limit\n\n" + "Customers set it, and the test password is Tr0ub4dor&3. " * 3
    files = [(DOCUMENT, TEXT.encode(), (9, 12))]
    outcome, seen = mine(GOOD, seed=commit_seed(message, files, max_lines=40))
    assert isinstance(outcome, NoAnswer) and seen == []


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(GOOD),
        f"```json\n{json.dumps(GOOD, indent=2)}\n```",
        f"<think>{{maybe}}</think>Here it is: {json.dumps(GOOD)} I hope it helps.",
    ],
)
def test_a_draft_is_found_between_whatever_else(reply):
    draft = read_draft(reply)
    assert (draft.question, draft.answer) == (QUESTION, ANSWER)
    assert draft.citations == (Citation("shop/cart.py", 9, 12), Citation("shop/cart.py", 6, 13))


def test_seeds_show_the_place_with_what_is_around_it():
    text = "\n".join(f"line number {number} of the page" for number in range(1, 301)).encode()
    (one,) = document_seeds(DOCUMENT, text, max_lines=40)
    assert (one.shown[0].first_line, one.shown[0].last_line) == (1, 40)
    seeds = list(fragment_seeds(DOCUMENT, text, max_lines=40, seed=0))
    assert len(seeds) == 2
    for one in seeds:
        assert one.kind is SeedKind.FRAGMENT
        assert 1 <= one.focus.count("\n") + 1 <= 15
        assert len(one.shown[0].lines) <= 40
        first = int(re.search(r"number (\d+)", one.focus)[1])
        assert one.shown[0].first_line <= first <= one.shown[0].last_line
    assert seeds == list(fragment_seeds(DOCUMENT, text, max_lines=40, seed=0))
    assert seeds != list(fragment_seeds(DOCUMENT, text, max_lines=40, seed=1))


def test_lines_are_counted_as_git_does():
    text = TEXT.replace("TAX = 0.2", "TAX = 0.2 # \x0c form feed \u2028 and more").encode()
    (one,) = symbol_seeds(DOCUMENT, text, units=PythonExtractor().units(text), max_lines=120)
    assert one.focus.startswith("def total(")
    assert one.shown[0].numbered(6, 6) == "6| def total(items, limit):\n"


def test_sections_and_commits_that_say_little_give_no_seed():
    page = "# Carts\n\nShort.\n\n## Totals\n\n" + "The total stops at the limit that a customer set. " * 6 + "\n"
    (one,) = document_seeds(DOCUMENT, page.encode(), max_lines=40)
    assert one.focus.startswith("## Totals")
    files = [(DOCUMENT, TEXT.encode(), (9, 12))]
    assert commit_seed("Stop at the limit\n\nToo short.", files, max_lines=40) is None
    assert commit_seed("Stop at the limit\n\n" + "Because of this. " * 9, [], max_lines=40) is None
    seed = commit_seed("Stop at the limit\n\n" + "Because of this. " * 9, files, max_lines=40)
    assert (seed.kind, seed.shown[0].first_line) == (SeedKind.COMMIT, 1)
    assert list(fragment_seeds(DOCUMENT, b"}}}}\n))))\n" * 200, max_lines=40, seed=0)) == []


def test_the_choice_does_not_depend_on_the_order_of_the_seeds():
    text = "\n".join(f"line number {number} of the page" for number in range(1, 3001)).encode()
    seeds = list(fragment_seeds(DOCUMENT, text, max_lines=40, seed=0))
    chosen = choose(seeds, 5, seed=3)
    assert len(chosen) == 5
    assert chosen == choose(reversed(seeds), 5, seed=3)
    assert chosen != choose(seeds, 5, seed=4)
