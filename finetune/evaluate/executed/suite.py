"""The executed suite: both models write functions and commits of the repositories, and the tests there judge."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from finetune.contracts.dataset import ReasonCount
from finetune.contracts.errors import InputError
from finetune.contracts.evaluation import Answer, Finding, PairedRow, SuiteName
from finetune.contracts.io import digest_json
from finetune.evaluate.executed.answering import TOP_P, Answering, ModelAnswering, Request
from finetune.evaluate.executed.chosen import ChosenTask, ChosenTasks, choose_tasks
from finetune.evaluate.executed.grade import Grade, Grader, check_grading, jail_tests, num_jobs
from finetune.evaluate.executed.passing import pass_at_k
from finetune.evaluate.metric import Kind, Metric, Part
from finetune.evaluate.suite import Measured, Subject, Task, batches
from finetune.recipe.schema import EvaluateSection
from finetune.render.rows import Renderer


def _metric(name: str, kind: Kind, *by: Part) -> Metric:
    return Metric(SuiteName.EXECUTED, name, unit="share", direction="higher is better", kind=kind, by=by)


# of tasks of which it is not known that training has seen them
PASSED = _metric("pass@1", "pass or fail", "group", "slice", "repo")
SHARE = _metric("tests made to pass", "mean")
IN_FORM = _metric("answers in the asked form", "pass or fail")
DRAWN = _metric("pass@1, drawn", "mean")
PASSED_OF_K = _metric("pass@k", "mean")
# memory is no skill: a figure of its own
PASSED_SEEN = _metric("pass@1, seen in training", "pass or fail")
# raised when prompts, cuts or grades change, so that results of another version are not taken up
VERSION = 1


def executed_suite(
    folders: Sequence[Path],
    renderer: Renderer,
    section: EvaluateSection,
    *,
    cache: Path,
    answering: Answering | None = None,
    trained_on: str = "",
) -> "ExecutedTasks":
    """The suite of the tasks in folders. cache keeps grades; answering None asks the model under measurement.
    trained_on is the digest of the adapter's dataset, by which labels of tasks are taken over; "" takes all.

    Raises DatasetError for a damaged folder, InputError where no task can be asked, MachineError where there is no jail
    or where the tests do not do here what they did when the tasks were mined.
    """
    from finetune.execution.jail import Jail

    chosen = choose_tasks(folders, renderer, section, trained_on=trained_on)
    if not chosen.tasks:
        told = "; ".join(f"{count.count:,} x {count.reason}" for count in chosen.left_out)
        raise InputError(
            f"No task that tests grade can be asked: {told or 'no folder of tasks was named'}.",
            "Mine some with `finetune data tasks`, or raise evaluate.executed_tasks and data.max_tokens.",
        )
    grader = Grader(jail_tests(Jail.open()), cache)
    check_grading(grader, chosen.tasks)
    return ExecutedTasks(chosen, grader, answering or ModelAnswering(renderer, section), section=section)


class ExecutedTasks:
    """Tasks with their graders, as the runner of evaluations takes them."""

    name = SuiteName.EXECUTED
    metrics = (PASSED, SHARE, IN_FORM, DRAWN, PASSED_OF_K, PASSED_SEEN)

    def __init__(self, chosen: ChosenTasks, grader: Grader, answering: Answering, *, section: EvaluateSection) -> None:
        self._chosen = chosen.tasks
        self._left_out = chosen.left_out
        self._grader = grader
        self._answering = answering
        self._section = section
        self.tasks = tuple(_task(one) for one in chosen.tasks)
        self.digest = digest_json(
            [
                VERSION,
                *chosen.digests,
                *[digest_json([one.task.id, one.knew, one.prompt.form, *one.prompt.token_ids]) for one in chosen.tasks],
                [section.executed_new_tokens, section.executed_samples, section.executed_k],
                [section.executed_temperature, TOP_P, section.seed, section.batch_rows],
            ]
        )

    def left_out(self) -> tuple[ReasonCount, ...]:
        """Tasks that were passed over before any model was asked, by reason."""
        return self._left_out

    def measure(self, subject: Subject, task_ids: Sequence[str], *, told: Callable[[Measured], None]) -> None:
        """Ask subject batch by batch; tests run on all cores meanwhile, and told hears each task when it is graded."""
        wanted = frozenset(task_ids)
        pool = ThreadPoolExecutor(num_jobs(), thread_name_prefix="grade")
        running: set[Future[Measured]] = set()
        try:
            for chosen, answers in self._answered(subject, wanted):
                running.add(pool.submit(self._judge, chosen, answers))
                for future in [future for future in running if future.done()]:
                    running.remove(future)
                    told(future.result())
            for future in as_completed(running):
                told(future.result())
        finally:
            pool.shutdown(cancel_futures=True)

    def findings(self, rows: Sequence[PairedRow], answers: Sequence[Answer]) -> tuple[Finding, ...]:
        """None: all that is found is paired."""
        return ()

    def _answered(self, subject: Subject, wanted: frozenset[str]) -> Iterator[tuple[ChosenTask, list[str]]]:
        """Tasks with the greedy answer and those that were drawn.

        Batches are the same whatever is wanted, so that taking up again rounds no sum otherwise.
        """
        num_answers = 1 + self._section.executed_samples
        for places in batches([len(one.prompt.token_ids) for one in self._chosen], self._section.batch_rows):
            batch = [self._chosen[place] for place in places]
            if wanted.isdisjoint(one.task.id for one in batch):
                continue
            requests = [Request(one.prompt, sample) for one in batch for sample in range(num_answers)]
            answers = self._answering.answers(subject, requests)
            for place, one in enumerate(batch):
                if one.task.id in wanted:
                    yield one, answers[place * num_answers : (place + 1) * num_answers]

    def _judge(self, chosen: ChosenTask, answers: Sequence[str]) -> Measured:
        grades = [self._grader.grade(chosen, answer) for answer in answers]
        broken = next((grade.broken for grade in grades if grade.broken), "")
        if broken:
            return Measured(chosen.task.id, answer=answers[0], broken=broken)
        values = _values(grades, section=self._section, chosen=chosen)
        return Measured(chosen.task.id, values, answer=answers[0], note=grades[0].note)


def _values(grades: Sequence[Grade], *, section: EvaluateSection, chosen: ChosenTask) -> dict[str, float]:
    """The first grade is that of the greedy answer. A task that training has seen has a figure of its own, alone."""
    greedy, *drawn = grades
    if chosen.task.seen:
        return {PASSED_SEEN.name: float(greedy.passed)}
    values = {PASSED.name: float(greedy.passed), SHARE.name: greedy.share}
    if chosen.prompt.form != "infill":
        values[IN_FORM.name] = float(greedy.in_form)
    if drawn:
        num_passed = sum(grade.passed for grade in drawn)
        values[DRAWN.name] = pass_at_k(len(drawn), num_passed, k=1)
        values[PASSED_OF_K.name] = pass_at_k(len(drawn), num_passed, k=section.executed_k)
    return values


def _task(one: ChosenTask) -> Task:
    task = one.task
    wanted = "\n".join(file.text or "" for file in task.gold)
    return Task(
        id=task.id,
        repo=task.repo,
        path=task.path,
        cluster=task.cluster,
        language=task.language,
        group=task.kind,
        slice=one.knew,
        prompt=one.prompt.shown,
        wanted=wanted,
    )
