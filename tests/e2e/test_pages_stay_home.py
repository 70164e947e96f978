"""The pages that people open, in a real browser: what they ask for beyond their own origin.

The playground's own test says the same of the playground, in each of its uses.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from data_pipelines.report.write import write_report
from finetune.contracts.dataset import Task
from finetune.evaluate.page.page import Gate
from finetune.evaluate.page.write import write_page
from finetune.evaluate.report import Evaluation, save_evaluation
from finetune.guard.switches import offline_environment

from .egress import ROOT
from .mlflow_server import Server
from .test_playground import CHROMIUM, FLAGS, WAIT_MS

QUIET_MS, SHOWN_MS = 1_000, 60_000
# shown where an experiment has no traces yet, which is every experiment of ours
TRACES_FILM = "https://mlflow.org/docs/latest/images/llms/tracing/tracing-top.mp4"
UNIT = Path(__file__).parents[1] / "unit"
BEACON = "https://outside.example/beacon"
# what a repository can hold: each asks for the beacon where it is let act
HOSTILE = (
    f"</pre></style><img src={BEACON}1><link rel=stylesheet href={BEACON}2><script src={BEACON}3></script>"
    f"<iframe src={BEACON}4></iframe><p style='background:url({BEACON}5)'>![a]({BEACON}6)"
    f"<meta http-equiv=refresh content='0;url={BEACON}7'><svg onload=\"fetch('{BEACON}8')\">"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.is_file(), reason="Debian's chromium is not installed"),
]


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"pages_{path.parent.name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def context() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        context = browser.new_context()
        context.set_default_timeout(WAIT_MS)
        yield context
        browser.close()


def requests_of(context, address: str) -> list[str]:
    """Every request that a page makes until nothing more is under way."""
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.close()
    return asked


def dataset_page(folder: Path) -> Path:
    unit = module_at(UNIT / "data_pipelines" / "report" / "conftest.py")
    rows = [unit.example_of(number, task, text=HOSTILE, language=HOSTILE) for task in Task for number in range(4)]
    unit.save_dataset(folder, rows, [unit.dropped_of(1, HOSTILE, HOSTILE, repo=HOSTILE, path=HOSTILE)])
    return write_report(folder)


def evaluation_page(folder: Path) -> Path:
    found = module_at(UNIT / "finetune" / "evaluate" / "page" / "conftest.py").evaluation_of()
    rows = [row.model_copy(update=dict.fromkeys(("repo", "path", "language"), HOSTILE)) for row in found.rows]
    fields = dict.fromkeys(("prompt", "wanted", "base", "adapter", "note"), HOSTILE)
    answers = [answer.model_copy(update=fields) for answer in found.answers]
    save_evaluation(Evaluation(found.report, rows, answers), folder)
    return write_page(folder, gate=Gate(False, (HOSTILE,)))


@pytest.mark.parametrize("make", [dataset_page, evaluation_page])
def test_a_report_asks_for_nothing_but_itself_whatever_a_repository_holds(make, context, tmp_path):
    page = make(tmp_path / "folder")
    assert BEACON in page.read_text()
    assert requests_of(context, page.as_uri()) == [page.as_uri()]


def test_a_page_without_care_would_be_seen_asking(context, tmp_path):
    """The same text where nothing keeps it from acting."""
    page = tmp_path / "page.html"
    page.write_text(f"<pre>{HOSTILE}")
    asked = requests_of(context, page.as_uri())
    assert {f"{BEACON}{number}" for number in (1, 2, 3, 4, 5)} <= set(asked)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """MLflow's server, as `finetune runs ui` sets it up, with one run: (its address, the run's page)."""
    server = Server(tmp_path_factory.mktemp("mlflow") / "server", offline_environment({}))
    server.start()
    client = server.client()
    experiment = client.create_experiment("code")
    run = client.create_run(experiment).info.run_id
    client.log_param(run, "lora.rank", "8")
    client.set_tag(run, "mlflow.note.content", f"![a]({BEACON})")
    yield server.address, f"/#/experiments/{experiment}/runs/{run}"
    server.kill()


def beyond(context, origin: str, place: str, *, shows: str) -> set[str]:
    """What a page of MLflow asks for beyond origin, until it shows what is named and asks for nothing new."""
    page, asked = context.new_page(), set()
    page.on("request", lambda request: asked.add(request.url.partition("?")[0]))
    page.goto(origin + place)
    page.wait_for_selector(shows, state="attached", timeout=SHOWN_MS)
    before: set[str] = set()
    while before != asked:
        before = set(asked)
        page.wait_for_timeout(QUIET_MS)
    page.close()
    return {url for url in asked if not url.startswith((origin, "data:", "blob:"))}


def test_mlflows_pages_ask_beyond_their_origin_what_the_documentation_says(tracked, context):
    origin, run_page = tracked
    assert beyond(context, origin, "/#/models", shows="text=Registered Models") == set()
    assert beyond(context, origin, run_page, shows=f"img[src='{BEACON}']") == {BEACON}, "a description acts"
    traces = f"{run_page.partition('/runs/')[0]}/traces"
    assert beyond(context, origin, traces, shows="text=Start tracing") == {TRACES_FILM}
    documented = (ROOT / "docs" / "egress.md").read_text()
    assert TRACES_FILM in documented
