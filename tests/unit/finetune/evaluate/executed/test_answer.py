"""What a model wrote becomes files: nothing but what was asked for can change."""

from collections.abc import Callable

import pytest

from finetune.contracts.executed import ExecutedTask, FileText
from finetune.evaluate.executed.answer import Form, files_of, gold_answer, hole_of, without_fence

Make = Callable[..., ExecutedTask]
CART = (
    "class Cart:\n"
    "    def add(self, price):\n"
    '        """Add."""\n'
    "        self.items.append(price)\n"
    "        return self\n"
    "\n"
    "    def total(self):\n"
    "        return sum(self.items)\n"
)
BODY = "        self.items.append(price)\n        return self"


@pytest.fixture
def task(body: Make) -> ExecutedTask:
    return body(first_line=4, last_line=5, gold=(FileText(path="shop/cart.py", text=BODY),))


def filled(task: ExecutedTask, answer: str, form: Form = "infill") -> str:
    (file,) = files_of(answer, task, form=form, before={"shop/cart.py": CART})
    assert file.path == "shop/cart.py"
    return file.text or ""


def test_a_hole_and_its_body_are_the_file(task: ExecutedTask) -> None:
    hole = hole_of(CART, task)
    assert hole.before + hole.body + hole.after == CART
    assert (hole.indent, hole.before[-8:]) == (" " * 8, " " * 8)
    last = task.model_copy(update={"first_line": 8, "last_line": 8})
    assert hole_of(CART.rstrip("\n"), last).after == ""


@pytest.mark.parametrize("form", ["infill", "body"])
def test_the_authors_text_gives_the_file_back(task: ExecutedTask, form: Form) -> None:
    answer = gold_answer(task, form=form, before={"shop/cart.py": CART})
    assert answer is not None
    assert filled(task, answer, form) == CART


def test_what_follows_the_body_is_not_taken_over(task: ExecutedTask) -> None:
    more = "pass\n\n    def total(self):\n        return 7\n\n\nimport os\n"
    assert filled(task, more) == CART.replace(BODY, "        pass")


def test_an_answer_that_indents_its_first_line_again_is_taken(task: ExecutedTask) -> None:
    assert filled(task, "        self.items.append(price)\n        return self\n") == CART


GO = "package shop\n\nfunc Text() string {\n\tx := `a\n}\nb`\n\treturn x\n}\n"


@pytest.mark.parametrize("answer", ["x := `a\n}\nb`\n\treturn x\n}\n", "```go\n\tx := `a\n}\nb`\n\treturn x\n```"])
def test_a_string_of_several_lines_is_not_moved_where_indentation_means_nothing(body: Make, answer: str) -> None:
    task = body(first_line=4, last_line=7, path="a.go", language="go", gold=(FileText(path="a.go", text=""),))
    (file,) = files_of(answer, task, form="body", before={"a.go": GO})
    assert file.text == GO


@pytest.mark.parametrize(
    "answer",
    [
        "```python\n        self.items.append(price)\n        return self\n```\n",
        "self.items.append(price)\nreturn self",
        "    self.items.append(price)\n    return self",
    ],
)
def test_a_body_is_moved_to_where_it_stands(task: ExecutedTask, answer: str) -> None:
    assert filled(task, answer, "body") == CART


@pytest.mark.parametrize("answer", ["", "   \n", "\n\ndef other():\n    pass\n"])
def test_no_text_is_no_answer(task: ExecutedTask, answer: str) -> None:
    with pytest.raises(ValueError, match="no text"):
        filled(task, answer)


BLOCK = "shop/cart.py\n<<<<<<< SEARCH\n        return sum(self.items)\n=======\n        return 0\n>>>>>>> REPLACE\n"


@pytest.mark.parametrize("answer", [BLOCK, BLOCK.rstrip("\n"), f"```\n{BLOCK}```\n"])
def test_blocks_edit_the_files_that_were_shown(commit: Make, answer: str) -> None:
    assert filled(commit(), answer, "blocks") == CART.replace("sum(self.items)", "0")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("I would change the total.\n", "a block has no end"),
        ("", "no block"),
        (BLOCK.replace("shop/cart.py", "tests/test_cart.py"), "none of the files"),
        (BLOCK.replace("shop/cart.py", "../cart.py"), "none of the files"),
        (BLOCK.replace("sum(self.items)", "sum(self.prices)"), "does not occur exactly once"),
        (BLOCK + "That is all.\n", "has no end"),
    ],
)
def test_another_answer_is_none_and_says_why(commit: Make, answer: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        files_of(answer, commit(), form="blocks", before={"shop/cart.py": CART})


def test_a_commit_of_new_and_changed_files_can_be_said(commit: Make) -> None:
    gold = (FileText(path="shop/cart.py", text="x = 1\n"), FileText(path="shop/new.py", text="y = 2\n"))
    task, before = commit(gold=gold), {"shop/cart.py": CART, "shop/new.py": ""}
    answer = gold_answer(task, form="blocks", before=before)
    assert answer is not None
    assert files_of(answer, task, form="blocks", before=before) == gold
    gone = commit(gold=(FileText(path="shop/cart.py", text=None),))
    assert gold_answer(gone, form="blocks", before=before) is None


def test_a_fence_inside_is_left_alone() -> None:
    assert without_fence("```\na\n```\nb\n") == "```\na\n```\nb\n"
    assert without_fence("x = 1\n") == "x = 1\n"


def test_nothing_outside_the_lines_changes_whatever_is_answered(task: ExecutedTask) -> None:
    hole = hole_of(CART, task)
    for answer in ("x = 1", "def f():\n            pass", "\\\n", ")\n}\n", "x = '''", "return\n" * 3):
        text = filled(task, answer)
        assert text.startswith(hole.before)
        assert text.endswith(hole.after)
