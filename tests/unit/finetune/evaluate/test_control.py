"""The control: which side sees context, what is counted, and what its figures allow to say."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune.contracts.dataset import Example, Role, Segment, Split
from finetune.contracts.dataset import Task as RowTask
from finetune.contracts.errors import InputError
from finetune.contracts.evaluation import PairedRow, SuiteName
from finetune.evaluate.control import ACROSS, ACROSS_EXACT, BOTH, NEITHER, ControlGaps, control_suite
from finetune.evaluate.control_text import CLOSES, TRAINED, UNKNOWN
from finetune.evaluate.suite import Measured, Subject
from finetune.model.loading import LoadedBase
from finetune.recipe.schema import EvaluateSection
from finetune.render.dataset import open_dataset
from finetune.render.rows import Renderer

SECTION = EvaluateSection(max_new_tokens=16, batch_rows=2, resamples=500)
TARGET = "return price"


@pytest.fixture
def build(
    make_example: Callable[..., Example], make_dataset: Callable[..., Path], loaded: LoadedBase, tmp_path: Path
) -> Callable[..., ControlGaps]:
    """The suite of some gaps: index, context and target each."""

    def make(*gaps: tuple[str, str], max_tokens: int = 400, section: EvaluateSection = SECTION) -> ControlGaps:
        examples = []
        for index, (context, target) in enumerate(gaps):
            parts = [(Role.PREFIX, f"def f{index}():\n    "), (Role.SUFFIX, "\n"), (Role.TARGET, target)]
            example = make_example(RowTask.REPO_INFILL, parts, split=Split.HELDOUT)
            shown = Segment(role=Role.CONTEXT, text=context, path="shop/prices.py")
            examples.append(example.model_copy(update={"segments": (shown, *example.segments)}))
        dataset = open_dataset(make_dataset(tmp_path / "rows", examples))
        return control_suite(dataset, Renderer(loaded.tokenizer, loaded.family, max_tokens), section)

    return make


class Echo:
    """Answers what a prompt holds: the target if it was shown context, else nothing."""

    def __init__(self, suite: ControlGaps, monkeypatch: pytest.MonkeyPatch) -> None:
        self.prompts: list[str] = []

        def fill(subject: Subject, prompts: Sequence[Sequence[int]]) -> list[str]:
            texts = [suite._renderer.tokenizer.decode(ids) for ids in prompts]
            self.prompts += texts
            return [TARGET if "PRICE" in text else "" for text in texts]

        monkeypatch.setattr(suite, "_fill", fill)


def test_the_base_is_compared_with_context_and_the_adapter_without(
    build: Callable[..., ControlGaps], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = build(("PRICE = 3\n", TARGET))
    echo = Echo(suite, monkeypatch)
    found: dict[str, Measured] = {}
    for side in ("base", "adapter"):
        suite.measure(Subject(side, None), [suite.tasks[0].id], told=lambda one, side=side: found.update({side: one}))  # type: ignore[misc]
    assert found["base"].values == {ACROSS.name: 1.0, ACROSS_EXACT.name: 1.0, NEITHER.name: 0.0, BOTH.name: 1.0}
    assert found["adapter"].values == {ACROSS.name: 0.0, ACROSS_EXACT.name: 0.0, NEITHER.name: 0.0, BOTH.name: 1.0}
    assert (found["base"].answer, found["adapter"].answer) == (TARGET, "")
    assert ["shop/prices.py" in text for text in echo.prompts] == [True, False] * 2
    assert all(TARGET not in text for text in echo.prompts)


def test_a_model_fills_each_gap_twice_in_batches_that_stay_the_same(
    build: Callable[..., ControlGaps], loaded: LoadedBase
) -> None:
    suite = build(*(("x = 1\n" * length, TARGET) for length in range(1, 6)))
    found: dict[str, Measured] = {}
    suite.measure(
        Subject("base", loaded.model),
        [task.id for task in suite.tasks],
        told=lambda one: found.update({one.task_id: one}),
    )
    assert found.keys() == {task.id for task in suite.tasks}
    again: list[Measured] = []
    suite.measure(Subject("base", loaded.model), [suite.tasks[3].id], told=again.append)
    assert again == [found[suite.tasks[3].id]]


def test_gaps_without_room_for_context_are_counted(build: Callable[..., ControlGaps]) -> None:
    suite = build(
        ("PRICE = 3\n", TARGET), ("PRICE = 4\n" * 50, TARGET), ("PRICE = 3\n", "x" * 17), ("PRICE = 3\n", "  ")
    )
    assert len(suite.tasks) == 1
    assert {count.reason: count.count for count in suite.left_out()} == {
        "control gap passed over: its text exceeds max_new_tokens": 1,
        "control gap passed over: its text is blank": 1,
        "control gap passed over: not a file of its context fits in max_tokens": 1,
    }


def test_no_rows_are_an_error_that_says_what_to_do(
    build: Callable[..., ControlGaps], tiny_dataset: Path, loaded: LoadedBase, family_base: Callable[[str], Path]
) -> None:
    from finetune.contracts.adapter import Quantization
    from finetune.model.loading import load_base

    renderer = Renderer(loaded.tokenizer, loaded.family, 400)
    with pytest.raises(InputError, match="repo_infill"):
        control_suite(open_dataset(tiny_dataset), renderer, SECTION)
    llama = load_base(family_base("llama"), quantization=Quantization.NONE, device="cpu")
    with pytest.raises(InputError, match="no form of a prompt with several files"):
        control_suite(open_dataset(tiny_dataset), Renderer(llama.tokenizer, llama.family, 400), SECTION)


def rows(*, alone: float, helped: float, adapter: float) -> list[PairedRow]:
    """What 40 files give, each a little off."""
    found = []
    for index in range(40):
        off = (index % 5 - 2) / 100
        shared: dict[str, Any] = {
            "suite": SuiteName.CONTROL,
            "task_id": str(index),
            "repo": "shop",
            "path": f"{index}.py",
        }
        found.append(PairedRow(metric=ACROSS.name, base=helped + off, adapter=adapter, **shared))
        found.append(PairedRow(metric=NEITHER.name, base=alone - off, adapter=adapter, **shared))
    return found


@pytest.mark.parametrize(
    ("adapter", "sentence"), [(0.8, TRAINED), (0.6, CLOSES), (0.5, CLOSES), (0.3, UNKNOWN), (0.2, UNKNOWN)]
)
def test_the_report_says_whether_context_alone_closes_the_gap(
    build: Callable[..., ControlGaps], adapter: float, sentence: str
) -> None:
    suite = build(("PRICE = 3\n", TARGET))
    (found,) = suite.findings(rows(alone=0.3, helped=0.6, adapter=adapter), ())
    assert found.text == sentence
    assert found.value == pytest.approx(0.3)
    assert found.low <= 0.3 <= found.high
    assert (found.num_items, found.ok, found.limit) == (40, None, None)
    assert suite.findings((), ()) == ()
