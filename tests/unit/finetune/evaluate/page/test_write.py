"""The whole page, read the way a browser reads it, and in a browser where there is one."""

import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from finetune.contracts.errors import RunError
from finetune.contracts.evaluation import ROWS_NAME, Answer, EvaluationReport, SuiteName, SuiteReport
from finetune.evaluate.control import ACROSS, BOTH
from finetune.evaluate.page.page import Gate, render
from finetune.evaluate.page.write import write_page
from finetune.evaluate.report import Evaluation, save_evaluation
from finetune.evaluate.text import report_text
from finetune.evaluate.tracked import evaluation_tags, tracked_metrics
from finetune.evaluate.wording import against

MakeEvaluation = Callable[..., Evaluation]
VOID = {"meta", "rect", "line", "path", "circle", "br"}
EVIL = "</pre></script><script>alert(1)</script><img src=http://evil/x onerror=a()>'\"<!--{{ 7*7 }}\u202e\x00\x1b[31m"


class Reader(HTMLParser):
    """Takes a page apart, and insists that every tag is closed and none acts or loads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "img", "iframe", "link", "object", "embed", "form", "base"}
        assert not [key for key, _ in attrs if key.startswith("on") or key in {"src", "style"}]
        assert all(value and value.startswith("#") for key, value in attrs if key == "href")
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:50]}")


def page_of(evaluation: Evaluation, gate: Gate | None = None) -> str:
    return render(evaluation.report, evaluation.rows, evaluation.answers, gate=gate)


@pytest.fixture
def page(make_evaluation: MakeEvaluation) -> str:
    return page_of(make_evaluation())


def test_a_page_is_written_beside_the_report_and_again_with_equal_bytes(
    make_evaluation: MakeEvaluation, tmp_path: Path
) -> None:
    save_evaluation(make_evaluation(), tmp_path / "report")
    first = write_page(tmp_path / "report").read_bytes()
    assert write_page(tmp_path / "report").read_bytes() == first


def test_a_folder_that_was_altered_gets_no_page(make_evaluation: MakeEvaluation, tmp_path: Path) -> None:
    save_evaluation(make_evaluation(), tmp_path / "report")
    (tmp_path / "report" / ROWS_NAME).write_bytes(b"PAR1")
    with pytest.raises(RunError, match="altered"):
        write_page(tmp_path / "report")
    assert not (tmp_path / "report" / "report.html").exists()


def test_the_verdict_comes_first_and_says_what_it_does_not_show(page: str) -> None:
    text = Reader(page).text
    assert text.index("Better on your own held-out code") < text.index("fewer bits than the base")
    for piece in ("120 tasks in 40 files of 3 repositories", "It does not show", "not asked", "Four secrets"):
        assert piece in text


def test_links_lead_to_places_on_the_page_and_headings_do_not_skip(page: str) -> None:
    tags = Reader(page).tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {str(attrs["href"])[1:] for _, attrs in tags if "href" in attrs} <= set(ids)
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("aria-hidden" in attrs or attrs.get("aria-label") for tag, attrs in tags if tag == "svg")
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in tags if tag == "th")


def test_the_policy_allows_the_style_of_the_page_and_nothing_else(page: str) -> None:
    found = re.search("<style>(.*)</style>", page, re.DOTALL)
    assert found
    digest = b64encode(sha256(found.group(1).encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in page
    assert not re.search(r"https?://|url\(|@import", page)


def test_nothing_that_a_model_or_a_repository_wrote_acts(make_evaluation: MakeEvaluation) -> None:
    found = make_evaluation()
    rows = tuple(
        row.model_copy(update=dict.fromkeys(("repo", "path", "language", "group", "slice"), EVIL)) for row in found.rows
    )
    fields = dict.fromkeys(("prompt", "wanted", "base", "adapter", "note"), EVIL)
    answers: tuple[Answer, ...] = tuple(answer.model_copy(update=fields) for answer in found.answers)
    report = found.report.model_copy(update=dict.fromkeys(("adapter_id", "run_id", "settings", "dataset_digest"), EVIL))
    page = page_of(Evaluation(report, rows, answers), Gate(False, (EVIL,)))
    Reader(page)
    assert "<script" not in page
    assert {"\u202e", "\x00", "\x1b"}.isdisjoint(page)
    assert "{{ 7*7 }}" in Reader(page).text
    assert "[U+202E]" in page


@pytest.mark.parametrize(("gain", "title"), [(0.0, "Not shown to be better"), (-0.2, "Worse")])
def test_other_verdicts_are_said_as_plainly(make_evaluation: MakeEvaluation, gain: float, title: str) -> None:
    assert title in Reader(page_of(make_evaluation((SuiteName.HELDOUT,), gain=gain))).text


def test_a_limit_that_is_passed_speaks_against_the_adapter(make_evaluation: MakeEvaluation) -> None:
    found = make_evaluation(leaks=True)
    assert "Canaries found, planted 16 times is 47.0 %, and the limit is 20.0 %." in Reader(page_of(found)).text
    assert "But: Canaries found" in report_text(found.report)


def test_what_retrieval_gives_the_base_does_not_speak_against_the_adapter(
    make_evaluation: MakeEvaluation, make_report: Callable[..., EvaluationReport]
) -> None:
    primary = make_evaluation((SuiteName.HELDOUT,)).report.suites[0]
    worse = primary.scores[0].model_copy(update={"verdict": "worse"})
    alone, both = (worse.model_copy(update={"name": metric.name}) for metric in (ACROSS, BOTH))
    report = make_report((primary, SuiteReport(suite=SuiteName.CONTROL, scores=(alone, both))))
    (said,) = against(report)
    assert said.startswith("Edit similarity, context for both is worse"), "both models had the same prompts"


def test_what_was_not_measured_says_why_or_how(make_report: Callable[..., EvaluationReport]) -> None:
    report = make_report((SuiteReport(suite=SuiteName.EXECUTED, reason="There is no jail."),))
    text = Reader(render(report, (), ())).text
    assert "No verdict" in text
    assert "There is no jail." in text
    assert "finetune evaluate shop-1f0c9a2b3d4e --suite heldout" in text
    assert "There is no jail." in report_text(report)


def test_metrics_keep_their_names_and_have_groups(make_evaluation: MakeEvaluation) -> None:
    names = set(tracked_metrics(make_evaluation().report))
    assert {
        "eval/bits_per_byte_base",
        "eval_interval/bits_per_byte_difference_low",
        "eval/infill_exact_match_adapter",
        "eval/executed/executed_pass_1_difference",
        "eval_parts/bits_per_byte_novel_base",
        "eval/leakage/secrets_written_out",
        "eval/leakage/canaries_found_planted_16_times",
    } <= names


def test_tags_tell_whether_two_evaluations_asked_the_same(make_report: Callable[..., EvaluationReport]) -> None:
    suites = (
        SuiteReport(suite=SuiteName.HELDOUT, tasks_digest="a" * 64, num_tasks=1200),
        SuiteReport(suite=SuiteName.EXECUTED, reason="There is no jail."),
    )
    tags = evaluation_tags(make_report(suites))
    assert tags["evaluation.tasks.heldout"] == "1,200 tasks, digest aaaaaaaaaaaa"
    assert tags["evaluation.tasks.executed"] == "not measured: There is no jail."
    assert tags["evaluation.dataset"] == "d" * 12


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser here")
def test_a_browser_shows_it_without_a_complaint(make_evaluation: MakeEvaluation, tmp_path: Path) -> None:
    save_evaluation(make_evaluation(), tmp_path / "report")
    page = write_page(tmp_path / "report")
    browser = [str(shutil.which("chromium")), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    browser += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    shown = subprocess.run(browser, capture_output=True, text=True, timeout=120, check=True)
    assert "Better on your own held-out code" in shown.stdout
    assert "CONSOLE" not in shown.stderr
