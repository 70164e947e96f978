"""The playground in a real browser, over a real server with the embedded base and two adapters."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from finetune.contracts.adapter import Quantization
from finetune.contracts.run import Home
from finetune.contracts.votes import read_votes
from serving.client import call
from serving.run import running_server

from .conftest import save_adapter

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
ASK_MS = 60_000
WAIT_MS = 15_000
QUESTION = "Write a function that adds two numbers."
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def url(home) -> Iterator[str]:
    base = Path(str(files("finetune.embedded"))) / "base"
    save_adapter(home.adapters / "first", base, scale=0.05)
    save_adapter(home.adapters / "second", base, scale=0.05, seed=1)
    with running_server(base, home.adapters, quantization=Quantization.NONE, states=home.served) as address:
        for name, folder in (("shop", "first"), ("beta", "second")):
            serve(address, name, folder)
        yield address


def serve(url: str, name: str, folder: str) -> str:
    """Let name stand for the adapter in folder; its id."""
    card = call(url, "/v1/adapters/alias", expects="adapter", body={"alias": name, "adapter": folder})["adapter"]
    return card["adapter_id"]


@pytest.fixture(scope="module")
def browser(url):
    """After the server: the driver keeps an event loop of its own in this thread."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # a new, empty profile of the driver's own
        one = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield one
        one.close()


@pytest.fixture
def page(browser, url) -> Iterator[object]:
    """The page, loaded; whatever it does meanwhile, it asks no other host and complains of nothing."""
    yield from opened(browser, url, width=1280)


@pytest.fixture
def narrow_page(browser, url) -> Iterator[object]:
    yield from opened(browser, url, width=390)


@pytest.fixture
def troubled_page(browser) -> Iterator[object]:
    """A page without address, whose complaints are its test's own."""
    context = browser.new_context()
    context.set_default_timeout(WAIT_MS)
    yield context.new_page()
    context.close()


def opened(browser, url: str, *, width: int) -> Iterator[object]:
    complaints: list[str] = []
    hosts: set[str] = set()
    context = browser.new_context(viewport={"width": width, "height": 844})
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: hosts.add("/".join(request.url.split("/")[:3])))
    page.goto(f"{url}/playground")
    page.wait_for_selector("#models li:nth-child(3)")
    page.fill("#max-tokens", "24")
    yield page
    context.close()
    assert complaints == []
    assert {host for host in hosts if not host.startswith("data:")} == {url}


def ask(page, text: str = QUESTION) -> list[str]:
    """Ask in chat, and wait for the end; what each column answered."""
    page.fill("#message", text)
    page.click("#go")
    return answers(page)


def answers(page) -> list[str]:
    page.wait_for_selector(".turn")
    page.wait_for_selector("#go:enabled", timeout=ASK_MS)
    return [column.query_selector_all(".answer")[-1].text_content() for column in page.query_selector_all(".column")]


def served_answer(url: str, model: str, messages: list[dict[str, str]]) -> tuple[str, str]:
    """What the server says without the page: text and version."""
    body = {"model": model, "messages": messages, "max_tokens": 24, "temperature": 0}
    document = call(url, "/v1/chat/completions", expects="choices", body=body)
    return document["choices"][0]["message"]["content"], document["system_fingerprint"]


def test_base_and_adapter_answer_side_by_side_for_several_turns(page, url):
    expected = [served_answer(url, name, [{"role": "user", "content": QUESTION}]) for name in ("embedded", "shop")]
    assert ask(page) == [text for text, _ in expected]
    assert [one.text_content() for one in page.query_selector_all(".column .version")] == [v for _, v in expected]
    assert [one.text_content() for one in page.query_selector_all(".column h2")] == ["embedded", "shop"]
    figures = page.query_selector(".figures").text_content()
    assert "24 tokens" in figures and "tokens/s" in figures and "first after" in figures
    again = ask(page, "And three?")
    turns = [QUESTION, expected[1][0], "And three?"]
    roles = ("user", "assistant", "user")
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
    assert again[1] == served_answer(url, "shop", messages)[0]
    assert len(page.query_selector_all(".turn")) == 4


def test_an_answer_grows_and_can_be_stopped(page, url):
    page.fill("#max-tokens", "2048")
    page.fill("#message", QUESTION)
    page.click("#go")
    first = page.locator(".answer").first
    wait_until(page, lambda: len(first.text_content()) > 10)
    so_far = first.text_content()
    wait_until(page, lambda: len(first.text_content()) > len(so_far))
    assert first.text_content().startswith(so_far) and first.get_attribute("aria-busy") == "true"
    page.keyboard.press("Escape")
    page.wait_for_selector("#go:enabled")
    assert page.locator(".note", has_text="Stopped.").count() == 2
    wait_until(page, lambda: active(url) == 0)


def wait_until(page, condition: Callable[[], bool]) -> None:
    """Wait for a condition that the page's policy does not let the driver put to the page itself."""
    for _ in range(ASK_MS // 20):
        if condition():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it did not come true")


def active(url: str) -> int:
    return sum(one["num_active"] for one in call(url, "/v1/adapters", expects="versions")["versions"])


def test_differences_from_the_base_are_marked(page):
    base, shop = ask(page)
    page.select_option("#reference", label="embedded")
    columns = page.query_selector_all(".column")
    assert not columns[0].query_selector_all("ins, del")
    parts = columns[1].query_selector(".answer")
    assert base != shop and parts.query_selector_all("ins") and parts.query_selector_all("del")
    assert "".join(parts.evaluate("e => [...e.childNodes].map(n => n.nodeName === 'DEL' ? '' : n.textContent)")) == shop
    assert "".join(parts.evaluate("e => [...e.childNodes].map(n => n.nodeName === 'INS' ? '' : n.textContent)")) == base
    assert page.inner_text("#legend") == "Marked: only in embedded only here"
    page.select_option("#reference", label="none")
    assert not page.query_selector_all(".column ins") and page.locator(".answer").nth(1).text_content() == shop


def test_infill_shows_what_belongs_between(page, url):
    prefix, suffix = "import os\n\ndef read(path):\n    ", "\n"
    page.check("input[value=infill]", force=True)
    page.fill("#prefix", prefix)
    page.fill("#suffix", suffix)
    page.click("#go")
    answers(page)
    body = {"model": "shop", "prompt": prefix, "suffix": suffix, "max_tokens": 24, "temperature": 0}
    expected = call(url, "/v1/completions", expects="choices", body=body)["choices"][0]["text"]
    assert page.locator(".filled").nth(1).text_content() == expected
    # three lines on either side
    shown = "\ndef read(path):\n    " + expected + suffix
    assert page.locator(".answer").nth(1).text_content() == shown
    page.select_option("#reference", label="embedded")
    marked = page.query_selector_all(".column:nth-child(2) :is(ins, del)")
    assert marked and all(one.evaluate("e => e.parentNode.className") == "filled" for one in marked)


def test_a_blind_vote_lands_in_the_journal_and_names_come_after_it(page, home):
    before = len(read_votes(home.votes))
    page.check("#models li:nth-child(3) input")
    page.check("#blind")
    ask(page)
    shown = page.inner_text("#answers") + page.inner_text("#reference")
    assert [one.text_content() for one in page.query_selector_all(".column h2")] == ["A", "B", "C"]
    assert not any(word in shown for word in ("embedded", "shop", "beta", "tiny-", "base-", "tokens/s"))
    page.click("#vote button:has-text('B')")
    page.wait_for_selector(".chosen")
    names = [one.text_content() for one in page.query_selector_all(".column h2")]
    versions = [one.text_content() for one in page.query_selector_all(".column .version")]
    votes = read_votes(home.votes)
    assert len(votes) == before + 1 and (votes[-1].choice, votes[-1].prompt, votes[-1].mode) == (1, None, "chat")
    assert [one.name for one in votes[-1].candidates] == names and set(names) == {"embedded", "shop", "beta"}
    assert [one.version for one in votes[-1].candidates] == versions
    assert f"You chose B. A was {names[0]}, B was {names[1]}" in page.inner_text("#vote")
    page.check("#keep")
    ask(page)
    page.click("#vote button:has-text('None is good')")
    wait_until(page, lambda: len(read_votes(home.votes)) == before + 2)
    assert (read_votes(home.votes)[-1].choice, read_votes(home.votes)[-1].prompt) == ("none", (QUESTION,))


def test_there_is_no_vote_on_an_answer_that_was_stopped(page):
    page.check("#blind")
    page.fill("#max-tokens", "2048")
    page.fill("#message", QUESTION)
    page.click("#go")
    page.click("#stop")
    page.wait_for_selector("#vote")
    assert "not every answer is whole" in page.inner_text("#vote") and not page.query_selector_all("#vote button")


def test_a_key_goes_with_each_request_and_with_the_tab(page, url):
    sent: dict[str, str | None] = {}
    page.on("request", lambda request: sent.update({request.url: request.headers.get("authorization")}))
    page.click("#access summary")
    page.fill("#key", "sesame")
    page.press("#key", "Enter")
    page.wait_for_selector("text=Key in use")
    ask(page)
    assert sent[f"{url}/v1/chat/completions"] == sent[f"{url}/v1/adapters"] == "Bearer sesame"
    kept = page.context.storage_state()
    assert "sesame" not in json.dumps(kept) and page.evaluate("sessionStorage.length") == 1
    page.click("#access summary")
    page.click("#forget")
    page.wait_for_selector("#access-state:text-is('Key')")
    assert page.evaluate("sessionStorage.length") == 0


def test_a_server_that_wants_a_key_is_asked_for_one(troubled_page, url):
    page = troubled_page
    refusal = json.dumps({"error": {"message": "A key is needed here."}})

    def keep_out(route) -> None:
        if route.request.headers.get("authorization") == "Bearer sesame":
            route.continue_()
        else:
            route.fulfill(status=401, content_type="application/json", body=refusal)

    page.route("**/v1/*", keep_out)
    page.goto(f"{url}/playground")
    page.wait_for_selector("#key:visible")
    assert page.inner_text("#base") == "A key is needed here."
    for key in ("barley", "sesame"):
        # a key that does not do is asked for once more
        page.wait_for_selector("#key:visible")
        page.fill("#key", key)
        page.press("#key", "Enter")
    page.wait_for_selector("#models li:nth-child(3)")


def answering(answer: dict[str, object] | None) -> Callable[[object], None]:
    """Answer a request in the server's place; None: hang up."""
    return lambda route: route.fulfill(**answer) if answer else route.abort()


def test_an_answer_that_breaks_off_is_told_and_the_question_kept(troubled_page, url):
    page = troubled_page
    page.goto(f"{url}/playground")
    page.wait_for_selector("#models li:nth-child(3)")
    page.fill("#max-tokens", "24")
    begun = 'data: {"choices": [{"index": 0, "delta": {"content": "def"}, "finish_reason": null}]}\n\n'
    broken = {
        "status": 500,
        "content_type": "application/json",
        "body": '{"error": {"message": "Embedded is broken."}}',
    }
    torn = {"status": 200, "content_type": "text/event-stream", "body": begun}
    for answer, words in ((torn, "The answer broke off"), (broken, "Embedded is broken."), (None, "does not answer")):
        page.route("**/v1/chat/*", answering(answer))
        ask(page)
        assert [words in note.text_content() for note in page.query_selector_all(".turn:last-child .bad")] == [
            True,
            True,
        ]
        assert page.input_value("#message") == QUESTION
        page.unroute("**/v1/chat/*")
    page.route("**/v1/chat/*", answering(broken))
    page.check("#blind")
    ask(page)
    assert "mbedded" not in page.inner_text("#answers") and "not every answer is whole" in page.inner_text("#vote")
    page.unroute("**/v1/chat/*")
    assert all(ask(page)) and page.query_selector_all("#vote button")


def test_starting_over_ends_what_runs(page, url):
    page.check("#blind")
    page.fill("#max-tokens", "2048")
    page.fill("#message", QUESTION)
    page.click("#go")
    page.wait_for_selector(".turn")
    page.click("#clear")
    page.wait_for_selector("#go:enabled")
    assert not page.query_selector_all(".column") and page.is_hidden("#vote")
    wait_until(page, lambda: active(url) == 0)


def test_the_list_of_models_is_alive(page, url, home):
    save = serve(url, "late", "first")
    page.wait_for_selector("#models li:has-text('late')")
    assert save in page.inner_text("#models li:has-text('late')")
    moved = serve(url, "late", "second")
    page.wait_for_selector(f"#models li:has-text('late'):has-text('{moved}')")
    assert page.inner_text("#status") == f"late stands for {moved} now."
    call(url, "/v1/unload_lora_adapter", expects="name", body={"lora_name": "late"})
    page.wait_for_selector("#models li:has-text('late')", state="detached")


def test_everything_can_be_done_from_the_keyboard(page, home):
    before = len(read_votes(home.votes))
    reached: list[str] = []

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate("document.activeElement.id || document.activeElement.tagName")
            reached.append(focused)
            if focused == "BODY":
                # from the page's end into the browser's own bar
                continue
            outline = page.evaluate(
                "(e => getComputedStyle(e.type === 'radio' ? e.nextSibling : e).outlineStyle)(document.activeElement)"
            )
            assert outline != "none", f"nothing shows that {focused} has the focus"
            if page.evaluate("([s]) => document.activeElement.matches(s)", [selector]):
                return
        raise AssertionError(f"{selector} is not reached: {reached}")

    tab_to("#access summary")
    tab_to("#message")
    page.keyboard.type(QUESTION)
    tab_to("#blind")
    page.keyboard.press("Space")
    page.keyboard.press("Control+Enter")
    answers(page)
    tab_to("#vote button:first-child")
    page.keyboard.press("Enter")
    page.wait_for_selector(".chosen")
    assert len(read_votes(home.votes)) == before + 1
    assert page.evaluate("document.activeElement.id") == "vote-question"
    assert {"go", "clear", "temperature", "max-tokens", "seed", "reference"} <= set(reached)


def test_a_narrow_screen_scrolls_one_way(narrow_page):
    page = narrow_page
    page.check("#models li:nth-child(3) input")
    page.check("#blind")
    ask(page, "x" * 300)
    page.click("#vote button:first-child")
    page.wait_for_selector(".chosen")
    page.select_option("#reference", index=1)
    page.click("#access summary")
    assert page.locator("#key-form").bounding_box()["x"] >= 0
    page.keyboard.press("Escape")
    page.check("input[value=infill]", force=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    lefts = {column.bounding_box()["x"] for column in page.query_selector_all(".column")}
    assert len(lefts) == 1, "columns lie below each other"


def test_the_page_is_readable_without_a_key_and_holds_nothing_of_the_site(url):
    with urllib.request.urlopen(f"{url}/playground") as answer:
        text = answer.read().decode()
    assert "shop" not in text and "embedded" not in text
