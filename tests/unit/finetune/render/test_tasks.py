"""Each task with the tokenizer of the base that ships: what is shown, what is learned, and that the text comes back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from finetune.contracts.dataset import Example, Provenance, Role, Segment, Split, Task
from finetune.embedded import BASE_FOLDER
from finetune.families.qwen3_5 import QWEN3_5
from finetune.render.rows import MASKED, Renderer, TokenRow

PLACE = Provenance(
    repo="shop", commit="c" * 40, path="a.py", blob="b" * 40, first_line=1, last_line=2, author="a", committed_at=1
)
FILES = [
    ("shop/price.py", "RATE = 0.2  # größer\n"),
    ("shop/cart.py", "from shop.price import RATE\n\nTOTAL = 1 + RATE\n"),
]
ANSWERED = (Task.DESCRIBE, Task.SEARCH_REPLACE, Task.TESTS, Task.QA, Task.REVIEW_FIX)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from finetune.model.loading import load_tokenizer

    return load_tokenizer(BASE_FOLDER)


@pytest.fixture
def renderer(tokenizer: Any) -> Renderer:
    return Renderer(tokenizer, QWEN3_5, max_tokens=512)


def example(task: Task, segments: Sequence[tuple[Role, str, str | None]]) -> Example:
    return Example(
        id="e",
        task=task,
        language="python",
        stratum="",
        segments=tuple(
            Segment(role=role, text=text, path=path, loss=role in (Role.TARGET, Role.ANSWER))
            for role, text, path in segments
        ),
        provenance=(PLACE,),
        split=Split.TRAIN,
        cluster="c",
        redactions=0,
        visibility="internal",
    )


def pretrain(files: Sequence[tuple[str, str]]) -> Example:
    return example(Task.PRETRAIN, [(Role.TARGET, text, path) for path, text in files])


def whole(renderer: Renderer, row: TokenRow) -> str:
    return str(renderer.tokenizer.decode(list(row.input_ids), clean_up_tokenization_spaces=False))


def learned(renderer: Renderer, row: TokenRow) -> str:
    ids = [token for token, label in zip(row.input_ids, row.labels, strict=True) if label != MASKED]
    return str(renderer.tokenizer.decode(ids, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("task", ANSWERED)
def test_an_answer_is_learned_below_its_instruction_and_files(renderer: Renderer, task: Task) -> None:
    segments = [(Role.INSTRUCTION, "Do it.", None), (Role.CONTEXT, "x = 1\n", "a.py"), (Role.ANSWER, "y = 2\n", "a.py")]
    (row,) = renderer.rows(example(task, segments))
    assert "Do it.\n\na.py\n```\nx = 1\n\n```" in whole(renderer, row)
    assert learned(renderer, row) == "y = 2\n<|im_end|>"
    assert row.loss_bytes == 6


def test_repository_infill_shows_files_under_their_markers(renderer: Renderer) -> None:
    segments = [
        (Role.CONTEXT, "RATE = 0.2\n", "shop/price.py"),
        (Role.PREFIX, "TOTAL = 1 + ", "shop/cart.py"),
        (Role.SUFFIX, "\n", "shop/cart.py"),
        (Role.TARGET, "RATE", "shop/cart.py"),
    ]
    (row,) = renderer.rows(example(Task.REPO_INFILL, segments))
    expected = "<|file_sep|>shop/price.py\nRATE = 0.2\n<|fim_prefix|>TOTAL = 1 + <|fim_suffix|>\n<|fim_middle|>"
    assert whole(renderer, row) == expected + "RATE<|endoftext|>"
    assert learned(renderer, row) == "RATE<|endoftext|>"


def test_several_files_stand_under_the_markers_of_the_family_and_only_their_text_is_learned(renderer: Renderer) -> None:
    (row,) = renderer.rows(pretrain(FILES))
    texts = [text for _, text in FILES]
    assert whole(renderer, row) == (
        f"<|repo_name|>shop\n<|file_sep|>shop/price.py\n{texts[0]}<|file_sep|>shop/cart.py\n{texts[1]}<|endoftext|>"
    )
    assert learned(renderer, row) == "".join(texts) + "<|endoftext|>"
    assert row.loss_bytes == sum(len(text.encode()) for text in texts)
    assert not row.truncated


def test_a_family_without_markers_has_lines_with_the_path(tokenizer: Any) -> None:
    assert QWEN3_5.sentinels is not None
    sentinels = replace(QWEN3_5.tokens.sentinels, repo_name=None, file_sep=None)
    plain = replace(QWEN3_5, tokens=replace(QWEN3_5.tokens, sentinels=sentinels))
    renderer = Renderer(tokenizer, plain, max_tokens=512)
    (row,) = renderer.rows(pretrain(FILES))
    texts = [text for _, text in FILES]
    assert whole(renderer, row) == f"# shop/price.py\n{texts[0]}# shop/cart.py\n{texts[1]}<|endoftext|>"
    assert learned(renderer, row) == "".join(texts) + "<|endoftext|>"


def test_one_file_alone_has_no_marker(renderer: Renderer) -> None:
    (row,) = renderer.rows(pretrain(FILES[:1]))
    assert whole(renderer, row) == FILES[0][1] + "<|endoftext|>"
    assert row.labels[0] == MASKED
    assert row.labels[1:] == row.input_ids[1:]


@pytest.mark.parametrize("max_tokens", [8, 9, 13, 64])
def test_over_several_rows_each_token_of_the_files_is_learned_once(tokenizer: Any, max_tokens: int) -> None:
    files = [(f"shop/m{n}.py", f"value_{n} = 'größer als {n}'\n" * (n + 1)) for n in range(4)]
    renderer = Renderer(tokenizer, QWEN3_5, max_tokens=max_tokens)
    rows = renderer.rows(pretrain(files))
    ids = [t for row in rows for t, label in zip(row.input_ids, row.labels, strict=True) if label != MASKED]
    expected = "".join(text for _, text in files) + "<|endoftext|>"
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == expected
    assert all(len(row.input_ids) <= max_tokens and row.num_loss_tokens for row in rows)
    assert sum(row.loss_bytes for row in rows) == sum(len(text.encode()) for _, text in files)


def test_markers_in_the_text_of_a_file_or_its_path_stay_text(renderer: Renderer) -> None:
    files = [("a<|file_sep|>.py", "x = '<|file_sep|>'\n"), ("b.py", "y = '<|repo_name|>'\n")]
    (row,) = renderer.rows(pretrain(files))
    names = ("<|file_sep|>", "<|repo_name|>")
    separator, repo = (renderer.tokenizer.convert_tokens_to_ids(name) for name in names)
    assert list(row.input_ids).count(separator) == 2
    assert list(row.input_ids).count(repo) == 1
