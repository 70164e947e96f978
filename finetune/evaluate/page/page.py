"""The page: what the template shows, put together and rendered."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from finetune.contracts.evaluation import Answer, EvaluationReport, PairedRow, SuiteName, SuiteReport
from finetune.evaluate.notes import notes
from finetune.evaluate.page import tables
from finetune.evaluate.page.cases import RULE, Cases, cases
from finetune.evaluate.wording import ASKS, counted, headline, unasked, unmeasured
from finetune.pages.style import page_policy, page_style
from finetune.pages.text import harmless, name
from finetune.terminal.progress import format_seconds

HERE = Path(__file__).parent
TEMPLATE = "report.html"
STYLE = "style.css"


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate said of this report: whether the adapter may go live, and why or why not."""

    passed: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SuiteView:
    """A measured suite with all that is shown of it."""

    report: SuiteReport
    asks: str
    whole: tuple[tables.ScoreLine, ...]
    parts: tuple[tables.Parts, ...]
    tasks: tables.Tasks | None
    outcomes: tuple[tables.Outcomes, ...]
    findings: tuple[tables.FindingLine, ...]
    cases: Cases | None


def render(
    report: EvaluationReport, rows: Sequence[PairedRow], answers: Sequence[Answer], *, gate: Gate | None = None
) -> str:
    """The page as HTML. gate None: it was not asked."""
    style = page_style(HERE / STYLE)
    views = [_view(suite, rows, answers) for suite in report.suites if suite.measured]
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            report=report,
            style=style,
            policy=page_policy(style),
            head=headline(report, num_repos=len({row.repo for row in rows if row.repo})),
            gate=gate,
            notes=notes(report),
            views=views,
            found={view.report.suite: view for view in views},
            missing=[(suite.suite, ASKS[suite.suite], suite.reason) for suite in unmeasured(report)],
            unasked=[(suite, ASKS[suite], ask_for(report, [suite])) for suite in unasked(report)],
            rule=RULE,
            left_out=list(tables.left_out(report.suites)),
            seconds=sum(suite.cost.base_seconds + suite.cost.adapter_seconds for suite in report.suites if suite.cost),
            moment=datetime.fromtimestamp(report.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
            settings=_pretty(report.settings),
            again=ask_for(report, [suite.suite for suite in report.suites]),
        )
    )


def ask_for(report: EvaluationReport, suites: Sequence[SuiteName]) -> str:
    """The command that measures these suites of the adapter."""
    options = " ".join(f"--suite {suite}" for suite in suites)
    return f"finetune evaluate {shlex.quote(report.adapter_id)} {options}"


def _view(suite: SuiteReport, rows: Sequence[PairedRow], answers: Sequence[Answer]) -> SuiteView:
    own = [row for row in rows if row.suite is suite.suite]
    by_task = {answer.task_id: answer for answer in answers if answer.suite is suite.suite}
    return SuiteView(
        report=suite,
        asks=ASKS[suite.suite],
        whole=tables.whole(suite),
        parts=tables.parts(suite, own),
        tasks=tables.tasks(suite, own),
        outcomes=tables.outcomes(suite, own),
        findings=tables.findings(suite),
        cases=cases(suite, own, by_task),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "harmless": harmless,
        "plain": lambda text: harmless(text).striptags(),
        "name": name,
        "number": lambda value: f"{value:,}",
        "counted": counted,
        "seconds": format_seconds,
    }
    return environment


def _pretty(settings: str) -> str:
    try:
        return json.dumps(json.loads(settings), indent=2, ensure_ascii=False, sort_keys=True)
    except ValueError:
        return settings
